"""What is known of the running embedded store: the line it printed when it was ready."""

import math
import os
import pwd
from pathlib import Path
from typing import Literal

import msgspec

from harness.errors import StoreError
from harness.paths import state_dir

KEY_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Where a store that demands signatures takes its keys from, and a client its own."""

CUSTOM = "custom"
"""What the store calls a profile that is none of its presets."""

_Z99 = 2.326_347_874_040_841  # 99th percentile of the normal distribution, as in the store


def log_normal_sigma(median: float, p99: float | None) -> float:
    """Return sigma of the log-normal distribution of first bytes by its median and 99th percentile, in the same unit.

    It is 0 where they are constant: without a percentile, or with a median of 0.
    """
    return 0.0 if p99 is None or median == 0 else math.log(p99 / median) / _Z99


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

    @property
    def label(self) -> str:
        """What keeps figures of two service times apart: a preset's name, else with it all values that are set."""
        if self.name != CUSTOM:
            return self.name
        tail = "" if self.first_byte_p99_ms is None else f"-{self.first_byte_p99_ms:g}"
        values = {
            f"{{:g}}{tail}ms": self.first_byte_ms,
            "{:g}MB/s": self.connection_mb_s,
            "{:g}Gbit/s": self.link_gbit_s,
            "{:g}requests/s": self.requests_per_second_per_prefix,
            "idle {:g}s": self.idle_seconds,
        }
        return f"{CUSTOM}({','.join(text.format(value) for text, value in values.items() if value is not None)})"

    @property
    def connection_bytes_per_second(self) -> float:
        """What a connection carries; infinity where it has no limit."""
        return math.inf if self.connection_mb_s is None else self.connection_mb_s * 1e6

    @property
    def link_bytes_per_second(self) -> float:
        """What all connections carry together; infinity where there is no limit."""
        return math.inf if self.link_gbit_s is None else self.link_gbit_s * 1e9 / 8


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
    """``http://host:port`` of the S3 service, ``https`` under TLS."""
    control: str
    """``http://host:port`` of the counters."""
    pid: int
    root: str
    auth: bool
    ca: str | None = None
    """File of the certificate authority that clients have to trust, PEM; None is plain HTTP."""
    key_log: str | None = None
    """File of the secrets of each TLS connection (NSS key log format); None where they are not kept."""
    profile: Profile
    link: Link = Link()
    born: int | None = None
    """Start of the process in the kernel's clock ticks since boot: with `pid`, it names one process only."""


def store_dir() -> Path:
    """Return the directory of the store's state: ready line, lock, log and, by default, its objects."""
    return state_dir() / "store"


def tls_dir() -> Path:
    """Return the directory of the store's certificate authority, which outlives the store."""
    return store_dir() / "tls"


def key_log() -> Path:
    """Return the file that holds the secrets of TLS connections, where a store is told to keep them."""
    return tls_dir() / "keys.log"


def state_file() -> Path:
    """Return the file that holds the ready line while the store runs."""
    return store_dir() / "store.json"


def is_alive(pid: int, born: int | None = None) -> bool:
    """Whether `pid` is a running s3-store; a recycled process id of another program is not.

    With `born`, a store that was started later under the same process id is not either. Of another user's process only
    the name can be seen; where not even that, as on machines that hide them, its existence has to do.
    """
    try:
        name = os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")  # noqa: PTH115, PTH119
    except PermissionError:
        name = (_stat(pid) or ("", []))[0]
    except OSError:
        return _is_hidden(pid)
    return name == "s3-store" and (born is None or born == birth(pid))


def birth(pid: int) -> int | None:
    """Return when process `pid` started, in clock ticks since boot; None when there is no such process."""
    stat = _stat(pid)
    return None if stat is None else int(stat[1][19])


def _stat(pid: int) -> tuple[str, list[str]] | None:
    """Return a process's name and what the kernel tells after it; None when no such process can be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name stands in parentheses and may hold blanks.
    before, _, after = stat.rpartition(")")
    return before.partition("(")[2], after.split()


def _is_hidden(pid: int) -> bool:
    """Whether there is a process that may neither be seen nor signalled."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def running() -> StoreState | None:
    """Return the state of the running store, or None; a state file left by a dead one counts as none.

    Raises
    ------
    StoreError
        Another user keeps to themselves whether one is running.
    """
    try:
        state = msgspec.json.decode(state_file().read_bytes(), type=StoreState)
    except PermissionError as error:
        raise StoreError(f"cannot tell whether the store is running: {error.filename} is another user's") from error
    except (OSError, msgspec.DecodeError):
        return None
    return state if is_alive(state.pid, state.born) else None


def other_owner() -> str | None:
    """Return whose the store of the state file is; None where it is this user's own, or there is none."""
    try:
        owner = state_file().stat().st_uid
    except OSError:
        return None
    if owner == os.geteuid():
        return None
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return f"user {owner}"


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
