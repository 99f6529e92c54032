"""The timeline: version 1 of the JSON contract in docs/timelines.md, written by recorders and read by pictures.

The five events of a chunk: 1 GET sent, 2 first byte received, 3 last byte received, 4 decompression starts,
5 decompressed chunk copied into the final array. All times are nanoseconds of this machine's monotonic clock.
"""

import functools
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from harness.errors import BadUseError, check_schema
from harness.paths import contents, write_atomically

SCHEMA = 1
CLOCK = "monotonic_ns"

Kind = Literal["index", "data", "metadata"]

Time = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
"""Nanoseconds of the monotonic clock."""

Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 60)]
"""Bytes, or a place among them."""

_LONGEST_NS = 24 * 3600 * 10**9
_MOST_CORES = 1 << 16
_MOST_IN_FLIGHT = 1 << 20


class WireTimes(msgspec.Struct, kw_only=True):
    """A request as a packet capture saw it."""

    sent_ns: Time | None = None
    """Last packet of the request left."""
    first_byte_ns: Time | None = None
    """First packet of the response arrived."""
    last_byte_ns: Time | None = None


class Request(msgspec.Struct, kw_only=True):
    """One HTTP request as the reader saw it; what a library gives no hook for is None."""

    id: int
    method: str
    key: str
    """Object's key below the array's, e.g. ``c/0/1/2``."""
    range: tuple[Size, Size] | None
    """Half-open bytes of the object, absolute also where a suffix was asked for; None for a whole object or HEAD."""
    kind: Kind
    status: int | None = None
    sent_ns: Time | None = None
    headers_ns: Time | None = None
    """Response headers received."""
    first_byte_ns: Time | None = None
    """First byte of the body."""
    last_byte_ns: Time | None = None
    wire: WireTimes | None = None
    """None without a capture."""
    bytes: Size | None = None
    """Bytes of the response's body."""


class Chunk(msgspec.Struct, kw_only=True):
    """One wanted inner chunk; the times never decrease in the order of the fields."""

    chunk: tuple[int, ...]
    """Coordinates in the array's grid of inner chunks."""
    key: str
    """Key of its shard."""
    offset: Size
    """First byte in the shard."""
    length: Size
    """Stored bytes."""
    request: int | None
    """Id of the request that brought it; chunks of a merged range share one. None for a chunk that is not stored."""
    sent_ns: Time | None = None
    first_byte_ns: Time | None = None
    """Of the chunk's own bytes where the body is stamped by offset, else of the request's."""
    last_byte_ns: Time | None = None
    decode_start_ns: Time | None = None
    decoded_ns: Time | None = None
    shard_copy_ns: Time | None = None
    """End of the copy into an intermediate array of the shard, where the library makes one."""
    copied_ns: Time | None = None
    """End of the copy into the final array."""
    thread: int | None = None
    """Thread that decoded it."""
    decode_busy_ns: Time | None = None
    """Time inside codecs; less than from start to end where a library decodes codec by codec over many chunks."""
    shard_copy_start_ns: Time | None = None
    copy_start_ns: Time | None = None
    """Start of the copy into the final array, which may be one copy for all chunks of a shard."""
    wire: WireTimes | None = None
    """As a packet capture saw it: when its request left, and the chunk's own first and last byte arrived."""


EVENTS = ("sent_ns", "first_byte_ns", "last_byte_ns", "decode_start_ns", "decoded_ns", "shard_copy_ns", "copied_ns")
"""The fields of a chunk that never decrease."""


class Overhead(msgspec.Struct, kw_only=True):
    """What recording cost, from interleaved pairs of recorded and plain executions."""

    pairs: int
    plain_seconds: float
    """Median of the plain executions."""
    recorded_seconds: float
    ratio: float
    """Median of recorded over plain, pair by pair."""
    ratio_low: float | None = None
    """Lowest of the pairs."""
    ratio_high: float | None = None


class Lag(msgspec.Struct, kw_only=True):
    """How much later than on the wire a reader saw an event; negative where it says so before the packet left."""

    requests: int
    """Requests that have the event on both sides; without any, there is no lag to tell."""
    median_ns: int | None = None
    p95_ns: int | None = None
    """Distance from the wire, earlier or later, that 95 % of the requests do not exceed."""


class Capture(msgspec.Struct, kw_only=True):
    """The packet capture that saw the requests of a timeline."""

    interface: str
    packets: int
    clock_error_ns: int
    """Most by which the kernel's time stamps, brought to the monotonic clock, are wrong."""
    lag: dict[str, Lag] = msgspec.field(default_factory=dict)
    """By event: ``sent_ns``, ``first_byte_ns``, ``last_byte_ns``; empty for a timeline from the wire alone."""


class Validity(msgspec.Struct, kw_only=True):
    """What was checked; a timeline with an entry in `failures` is not published."""

    ok: bool
    chunks_wanted: int
    chunks_linked: int
    requests_recorded: int
    requests_counted: int | None = None
    """By the store; None where it cannot count."""
    packets_dropped: int | None = None
    """By the capture; None without one."""
    failures: list[str] = msgspec.field(default_factory=list)
    """One line each."""


class Repeats(msgspec.Struct, frozen=True, kw_only=True):
    """What several recordings of the same say, each of a fresh process; the one that is kept is in the middle."""

    seconds: list[float]
    """From the call to its return, in the order of recording."""
    times_optimum: list[float]
    """Those over the optimal schedule of each recording's own requests; none without the wire."""


class Timeline(msgspec.Struct, kw_only=True):
    """One recorded execution of a workload by a reader.

    Raises
    ------
    ValueError
        Times that no execution has, or more requests in flight than anybody asks for: pictures would have no end.
    """

    schema: int = SCHEMA
    reader: str
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    workload: dict[str, Any]
    """The workload without its truth, with its ``label`` and ``digest``."""
    target: str
    clock: str = CLOCK
    begin_ns: Time
    """The read call was made."""
    end_ns: Time
    """It returned."""
    cores: Annotated[int, msgspec.Meta(ge=1, le=_MOST_CORES)]
    """Cores the reader could use."""
    link_bytes_per_second: Annotated[float, msgspec.Meta(ge=1)] | None = None
    """What all connections share; None where it is not known."""
    connection_bytes_per_second: Annotated[float, msgspec.Meta(ge=1)] | None = None
    """What a connection carries with the link to itself; None where it is not known."""
    overhead: Overhead | None = None
    repeats: Repeats | None = None
    """None where it was recorded once."""
    capture: Capture | None = None
    """None without one."""
    valid: Validity
    requests: list[Request]
    chunks: list[Chunk]
    notes: list[str] = msgspec.field(default_factory=list)
    """Why events are missing, and what else a reader of the picture has to know."""

    def __post_init__(self) -> None:
        """Refuse what no execution has."""
        if not self.begin_ns <= self.end_ns <= self.begin_ns + _LONGEST_NS:
            raise ValueError(f"it does not end between its begin and a day later: {self.begin_ns} to {self.end_ns}")
        recorded: list[Request | Chunk] = [*self.requests, *self.chunks]
        for one in recorded:
            self._check_times(one)
            self._check_times(one.wire)
        in_flight = self.workload.get("in_flight", 1)
        if not isinstance(in_flight, int) or not 1 <= in_flight <= _MOST_IN_FLIGHT:
            raise ValueError(f"its workload has {in_flight!r} requests in flight")

    def _check_times(self, owner: Request | Chunk | WireTimes | None) -> None:
        for name in () if owner is None else _times_of(type(owner)):
            time = getattr(owner, name)
            if time is not None and abs(time - self.begin_ns) > _LONGEST_NS:
                raise ValueError(f"{name} is more than a day away from its begin: {time}")


@functools.cache
def _times_of(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the fields that are times, not spans of time."""
    return tuple(name for name in kind.__struct_fields__ if name.endswith("_ns") and name != "decode_busy_ns")


def decode(data: bytes, *, origin: str = "timeline") -> Timeline:
    """Read a timeline from JSON text.

    Raises
    ------
    BadUseError
        Not a timeline, or one of another version.
    """
    try:
        fields = msgspec.json.decode(data)
        check_schema(fields, SCHEMA, origin)
        if isinstance(fields, dict) and "reads" in fields:
            raise BadUseError(
                f"{origin} is not a timeline but a workload: `zcb read READER {origin} --timeline t.json` records one"
            )
        return msgspec.convert(fields, Timeline)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadUseError(f"{origin} is not a timeline: {error}") from error


def load(path: Path) -> Timeline:
    """Read a timeline file; a BadUseError says what is wrong with it."""
    try:
        return decode(contents(path), origin=str(path))
    except OSError as error:
        raise BadUseError(f"cannot read {path}: {error.strerror}") from error


def check_replaceable(path: Path) -> None:
    """Check before a recording that `path` is free or an earlier timeline, which is then removed; else a BadUseError.

    So a recording that fails leaves no file that could be taken for its result. A device or a FIFO stays.
    """
    if path.is_file():
        load(path)
        Path(os.path.realpath(path)).unlink()


def save(path: Path, timeline: Timeline) -> None:
    """Write a timeline file, whole or not at all; a BadUseError says why that is impossible."""
    try:
        write_atomically(path, msgspec.json.encode(timeline) + b"\n")
    except OSError as error:
        raise BadUseError(f"cannot write {path}: {error.strerror}") from error
