"""A soak: mixed workloads for a long time through one conductor, and whether anything grows, leaks or stays.

Everything that lives through the run is watched after each cycle of the workloads: this process, every reader's worker
and the store. Memory is judged by the slope of a line through it, with the slope's confidence interval: flat is what
grows, surely, by no more over the whole run than the memory scatters anyway.
"""

import datetime
import itertools
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import psutil

from harness.errors import MeasurementError, blamed
from harness.machine.log import silenced
from harness.machine.memory import status_bytes
from harness.measure.conductor import Conductor, Plan
from harness.store.control import StoreControl
from harness.store.state import StoreState, require_running
from harness.targets.target import Target
from harness.workload.cases import Case
from harness.workload.create import create_workload
from harness.workload.model import Workload

_log = logging.getLogger(__name__)

SCHEMA = 1
HARNESS, STORE = "harness", "store"
"""What this process and the store are called beside the readers."""

_ERROR_RATE = 0.05
"""That any process at all is called growing though none is."""
_WARM_UP = 1 / 3
"""The first part of a run is not judged: allocators and pools fill."""
_LEAST = 8
"""Readings after the warm-up without which nothing is said of a slope."""
_PAGES = 1 << 20
"""Bytes within which memory counts as the same: less than an allocator asks for at once."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One process after a cycle."""

    seconds: float
    """Since the soak began."""
    pid: int
    memory_bytes: int
    """Unique to the process: what would be free if it ended."""
    files: int
    """Open file descriptors, sockets included."""
    threads: int


class Slope(msgspec.Struct, frozen=True, kw_only=True):
    """A line through a figure over time, per second, with the interval that holds for all processes together."""

    value: float
    low: float
    high: float
    scatter: float
    """Standard deviation around the line."""
    seconds: float
    """What was judged, the warm-up left out."""

    def grows(self, least: float) -> bool:
        """Whether it grew, surely, by more than it scatters and more than `least`."""
        return self.low * self.seconds > max(2 * self.scatter, least)


class Watched(msgspec.Struct, kw_only=True):
    """One process over the whole run."""

    name: str
    """``harness``, ``store``, or the reader."""
    readings: list[Reading] = msgspec.field(default_factory=list)
    memory: Slope | None = None
    """None where the run was too short to say."""
    files: Slope | None = None
    complaints: list[str] = msgspec.field(default_factory=list)


class Soak(msgspec.Struct, kw_only=True):
    """What a soak found."""

    schema: int = SCHEMA
    target: str
    started: str
    seconds: float = 0.0
    cycles: int = 0
    samples: int = 0
    """Verified executions, the network limit's included."""
    in_flight: int
    processes: list[Watched] = msgspec.field(default_factory=list)
    left: list[str] = msgspec.field(default_factory=list)
    """What was there after the end and should not have been."""

    @property
    def complaints(self) -> list[str]:
        """Everything that grew or stayed, in a line each."""
        return [f"{each.name}: {line}" for each in self.processes for line in each.complaints] + self.left


def soak(target: Target, readers: Sequence[str], cycle: Sequence[Case], *, seconds: float, in_flight: int) -> Soak:
    """Let readers take turns on the cases of a cycle until `seconds` are over, and watch every process.

    Parameters
    ----------
    target
        The embedded store, with the data sets of `cycle`.
    readers
        Each is one process from the first cycle to the last.
    cycle
        What each cycle reads.
    seconds
        No new cycle begins after so long; three are made at least.
    in_flight
        Requests that each reader is asked to have in flight.

    Raises
    ------
    MeasurementError
        A reader failed, or its process was not the same one throughout.
    """
    store = require_running()
    found = Soak(
        target=target.identity,
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        in_flight=in_flight,
    )
    work = [
        create_workload(case.pattern, target, dataset=case.dataset, parameters=case.parameters, in_flight=in_flight)
        for case in cycle
    ]
    # A cycle is one line, not one per round.
    with _traces(store, found.left), _own_temporary_files(found.left), silenced("harness.measure.conductor"):
        begin = time.monotonic()
        with Conductor(readers, plan=Plan(samples=1)) as conductor:
            watched: dict[str, Watched] = {}
            while found.cycles < 3 or time.monotonic() - begin < seconds:
                found.samples += sum(_cycle(conductor, each) for each in work)
                found.cycles += 1
                _note(watched, {HARNESS: os.getpid(), STORE: store.pid, **conductor.pids()}, time.monotonic() - begin)
                _log.info(f"cycle {found.cycles}, {time.monotonic() - begin:.0f} s, {found.samples} samples")
        found.seconds = time.monotonic() - begin
    found.processes = list(watched.values())
    judge(found.processes)
    return found


def judge(processes: Sequence[Watched]) -> None:
    """Say of each process whether its memory or its open files grew, or whether it was another one meanwhile."""
    confidence = 1 - _ERROR_RATE / (2 * len(processes))
    for each in processes:
        each.memory = slope([(r.seconds, r.memory_bytes) for r in each.readings], confidence)
        each.files = slope([(r.seconds, r.files) for r in each.readings], confidence)
        if len({reading.pid for reading in each.readings}) > 1:
            each.complaints.append("it was not the same process throughout")
        if each.memory is not None and each.memory.grows(_PAGES):
            each.complaints.append(f"its memory grows by {each.memory.value * 3600 / _PAGES:.1f} MiB an hour")
        if each.files is not None and each.files.grows(1):
            each.complaints.append(f"its open files grow by {each.files.value * 3600:.1f} an hour")


def slope(points: Sequence[tuple[float, float]], confidence: float) -> Slope | None:
    """Return the line through (seconds, figure) after the warm-up, or None where the points are too few.

    Neighbouring readings resemble each other, which would make the interval too narrow: it is widened by as many
    independent readings as the residuals' correlation leaves.
    """
    warm = points[-1][0] * _WARM_UP if points else 0.0
    judged = [(x, y) for x, y in points if x >= warm]
    if len(judged) < _LEAST:
        return None
    x, y = np.array(judged, float).T
    from scipy import stats  # slow to import, and every command imports this module

    line = stats.linregress(x, y)
    rest = y - (line.slope * x + line.intercept)
    scatter = float(np.std(rest))
    like = min(max(_likeness(rest), 0.0), 0.9)
    independent = max(3.0, len(x) * (1 - like) / (1 + like))
    error = scatter * np.sqrt(len(x) / (independent - 2) / float(np.sum((x - x.mean()) ** 2)))
    reach = float(stats.t.ppf((1 + confidence) / 2, independent - 2) * error)
    return Slope(
        value=float(line.slope),
        low=float(line.slope) - reach,
        high=float(line.slope) + reach,
        scatter=scatter,
        seconds=float(x[-1] - x[0]),
    )


def _likeness(rest: npt.NDArray[np.float64]) -> float:
    """Return the correlation of residuals with their neighbours; 0 where there is nothing to correlate."""
    power = float(np.sum(rest**2))
    return float(np.sum(rest[:-1] * rest[1:])) / power if power > 0 else 0.0


def _cycle(conductor: Conductor, workload: Workload) -> int:
    """Measure one round of a workload and return how many samples it gave."""
    rows = conductor.measure(workload)
    for row in rows:
        if row.error is not None:
            raise MeasurementError(blamed(f"{row.reader} failed on {workload.label}", row.error))
    return sum(len(row.samples) for row in rows)


def _note(watched: dict[str, Watched], pids: Mapping[str, int], seconds: float) -> None:
    for name, pid in pids.items():
        process = psutil.Process(pid)
        with process.oneshot():
            reading = Reading(
                seconds=seconds,
                pid=pid,
                memory_bytes=_anonymous_bytes(pid),
                files=process.num_fds(),
                threads=process.num_threads(),
            )
        watched.setdefault(name, Watched(name=name)).readings.append(reading)


def _anonymous_bytes(pid: int) -> int:
    """Return the memory that only this process can give back: not pages of files, which the kernel drops at will.

    The store maps the objects it serves, so by their pages it would seem to grow until it had served them all.
    """
    return sum(status_bytes(pid, field) or 0 for field in ("RssAnon", "VmSwap"))


@contextmanager
def _traces(store: StoreState, left: list[str]) -> Iterator[None]:
    """Note what is left after the block of processes, open files and connections, compared with before it."""
    me = psutil.Process()
    children, files = {child.pid for child in me.children(recursive=True)}, me.num_fds()
    with StoreControl(store.control) as control:
        connections = control.counters().connections_open
    yield
    left += [
        f"process {child.pid} ({child.name()}) is still there"
        for child in me.children(recursive=True)
        if child.pid not in children
    ]
    if me.num_fds() > files:
        left.append(f"{me.num_fds() - files} open files of the harness are still there")
    with StoreControl(store.control) as control:
        still = _connections_left(control, connections)
    if still > connections:
        left.append(f"{still - connections} connections of the store are still open")


def _connections_left(control: StoreControl, expected: int) -> int:
    """Return the store's open connections, once they are as few as `expected` or after five seconds."""
    until = time.monotonic() + 5.0
    while (now := control.counters().connections_open) > expected and time.monotonic() < until:
        time.sleep(0.05)
    return now


@contextmanager
def _own_temporary_files(left: list[str]) -> Iterator[None]:
    """Give this process and its workers a directory of their own for temporary files, and note what stays in it."""
    before, known = os.environ.get("TMPDIR"), tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="zcb-soak-") as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = known
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before
        stayed = sorted(path.name for path in Path(folder).rglob("*"))
        if stayed:
            left.append(f"{len(stayed)} temporary files are still there: {', '.join(itertools.islice(stayed, 3))}")
