"""What is known of the running embedded store: the line it printed when it was ready."""

import os
from pathlib import Path
from typing import Literal

import msgspec

from harness.errors import StoreError
from harness.paths import state_dir


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The service time the store was started with; None is unlimited or not sampled."""

    name: str
    first_byte_ms: float | None = None
    first_byte_p99_ms: float | None = None
    connection_mb_s: float | None = None
    link_gbit_s: float | None = None
    requests_per_second_per_prefix: float | None = None
    idle_seconds: float | None = None
    """After how long a connection without a request is closed."""
    seed: int | None = None


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """The network between the store and its clients; None is unknown or unlimited."""

    name: Literal["lo", "veth"] = "lo"
    interface: str = "lo"
    """The clients' end, whose counters tell what arrived."""
    gbit_s: float | None = None
    """Rate kept by the interface, headers included; None on lo, where the store paces bodies itself."""
    mtu: int | None = None
    segmentation_offload: bool | None = None
    """Whether the store's end sends more than a packet at a time, which hides headers."""


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """The ready line of the store (``docs/store.md``)."""

    schema: int
    endpoint: str
    """``http://host:port`` of the S3 service."""
    control: str
    """``http://host:port`` of the counters."""
    pid: int
    root: str
    auth: bool
    profile: Profile
    link: Link = Link()
    born: int | None = None
    """Start of the process in the kernel's clock ticks since boot: with `pid`, it names one process only."""


def store_dir() -> Path:
    """Return the directory of the store's state: ready line, lock, log and, by default, its objects."""
    return state_dir() / "store"


def state_file() -> Path:
    """Return the file that holds the ready line while the store runs."""
    return store_dir() / "store.json"


def is_alive(pid: int, born: int | None = None) -> bool:
    """Whether `pid` is a running s3-store; a recycled process id of another program is not.

    With `born`, a store that was started later under the same process id is not either.
    """
    try:
        name = os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")  # noqa: PTH115, PTH119
    except OSError:
        return False
    return name == "s3-store" and (born is None or born == birth(pid))


def birth(pid: int) -> int | None:
    """Return when process `pid` started, in clock ticks since boot; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name stands in parentheses and may hold blanks; the start time is the 20th field after it.
    return int(stat.rpartition(")")[2].split()[19])


def running() -> StoreState | None:
    """Return the state of the running store, or None; a state file left by a dead one counts as none."""
    try:
        state = msgspec.json.decode(state_file().read_bytes(), type=StoreState)
    except (OSError, msgspec.DecodeError):
        return None
    return state if is_alive(state.pid, state.born) else None


def require_running() -> StoreState:
    """Return the state of the running store.

    Raises
    ------
    StoreError
        No store is running.
    """
    state = running()
    if state is None:
        raise StoreError("the embedded store is not running: start it with `zcb store start --profile s3`")
    return state


LOOPBACK = "loopback"
"""The profile without service time."""

PROFILES = (LOOPBACK, "s3", "s3-tail")
