"""The processors of this machine: how many a process may run on, and how much of their time control groups leave it."""

import os
from collections.abc import Iterator
from pathlib import Path

_MEMBERSHIP = Path("/proc/self/cgroup")
_MOUNTS = Path("/proc/self/mountinfo")


def cores() -> int:
    """Return how many threads this process can keep busy: the decode threads every reader gets.

    Of a quota the whole cores count, and one at least, as Rust's standard library counts them.
    """
    return max(1, int(capacity()))


def machine_cores() -> int:
    """Return how many cores this process shares with those that may run elsewhere, as the embedded store."""
    every, limit = os.cpu_count() or allowed_cores(), quota()
    return every if limit is None else max(1, int(min(limit, every)))


def allowed_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def capacity() -> float:
    """Return how many seconds of CPU time this process and its neighbours in the control group get in a second."""
    limit = quota()
    return float(allowed_cores()) if limit is None else min(limit, allowed_cores())


def quota() -> float | None:
    """Return the cores' worth of time that control groups allow, the least of own and all above; None for no limit."""
    return min((limit for group in _groups() if (limit := _limit(group)) is not None), default=None)


def throttled_periods() -> int | None:
    """Return in how many periods a quota stopped this process' groups since they were made; None without a quota."""
    counts = [_number(group / "cpu.stat", "nr_throttled") for group in _groups() if _limit(group) is not None]
    return sum(count or 0 for count in counts) if counts else None


def _groups() -> Iterator[Path]:
    """Yield the folders of the control groups that share out the CPU: this process' own and those above it.

    That is cgroup v2's tree, and v1's of the controller ``cpu``, wherever they are mounted.
    """
    try:
        memberships = [line.split(":", 2) for line in _MEMBERSHIP.read_text().splitlines()]
        mounts = [line.partition(" - ") for line in _MOUNTS.read_text().splitlines()]
    except OSError:
        return
    kinds = {"0": "cgroup2"} | {number: "cgroup" for number, names, _ in memberships if "cpu" in names.split(",")}
    paths = {kinds[number]: path for number, _, path in memberships if number in kinds}
    for mount, _, system in mounts:
        kind, options = system.split()[0], system.split()[-1].split(",")
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options):
            root, point = mount.split()[3:5]
            yield from _upwards(Path(point), root, paths.get(kind, root))


def _upwards(point: Path, root: str, path: str) -> Iterator[Path]:
    """Yield the folder of group `path` in a tree whose group `root` is mounted at `point`, and those up to there."""
    inside = Path(path).is_relative_to(root) and ".." not in Path(path).parts
    folder = point / Path(path).relative_to(root) if inside else point  # else it has another name out there
    yield folder
    while folder != point:
        folder = folder.parent
        yield folder


def _limit(group: Path) -> float | None:
    """Return the quota of one group in cores' worth of time; None where it has none."""
    try:
        if (group / "cpu.max").exists():
            limit, period = (group / "cpu.max").read_text().split()
        else:
            limit, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except (OSError, ValueError):
        return None
    return None if limit in ("max", "-1") else int(limit) / int(period)


def _number(file: Path, name: str) -> int | None:
    """Return a number from a file of lines ``name number``; None where it is not told."""
    try:
        return int(dict(line.split() for line in file.read_text().splitlines())[name])
    except (OSError, KeyError, ValueError):
        return None


def thread_seconds() -> dict[str, float]:
    """Return the CPU time of each thread of this process in seconds, by its id; empty where the kernel does not tell.

    The scheduler's own account, to the nanosecond; the usual one has ticks of 10 ms.
    """
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            found[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
        except (OSError, ValueError, IndexError):  # it has ended, or nobody counts
            continue
    return found
