"""Workloads: a pattern made concrete for a dataset, as a versioned JSON file that every reader executes alike.

docs/workload.md describes the format for readers in other languages.
"""

import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from harness.datasets.array import MAX_CHUNKS, MAX_NBYTES, ArrayInfo, check_shapes, element_type
from harness.errors import BadUseError, TooLargeError, check_schema
from harness.targets.target import Target
from harness.workload import truth as truths
from harness.workload.patterns import Parameters, selection_size
from harness.workload.placement import Slices
from harness.workload.selections import chunks_touched
from harness.workload.truth import Truth

SCHEMA = 1
DEFAULT_IN_FLIGHT = 100
MOST_IN_FLIGHT = 10_000
MOST_LOOPS = 1_000_000
MOST_WINDOWS = 10_000_000
"""Of one execution, all loops together: each is timed by itself."""
_RAM_SHARE = 4


class Stream(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a read larger than memory is executed: window by window in C order, each a read of its own."""

    window: tuple[Annotated[int, msgspec.Meta(ge=1)], ...]
    """Elements along each axis of a window, whole objects; the last ones along an axis may be shorter."""
    loops: Annotated[int, msgspec.Meta(ge=1, le=MOST_LOOPS)] = 1
    """How often all windows are read, in the same order each time."""
    wanted_bytes: str
    """Stored bytes of each window's chunks, base64 of little-endian uint32."""


class Workload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One piece of work for a reader: selections of one array, requests in flight asked for, and the truth."""

    schema: int
    pattern: str
    parameters: Parameters
    target: Target
    array: ArrayInfo
    in_flight: int
    """Requests in flight that each library is asked for by its public knob."""
    reads: tuple[Slices, ...]
    """The calls of the pattern: ``(start, stop, step)`` per axis; each yields one newly allocated array."""
    concurrent_reads: Annotated[int, msgspec.Meta(ge=1)] = 1
    """At most so many of `reads` are under way at once, started in order; 1 is one after another."""
    array_bytes: int
    """Bytes of the final arrays."""
    wanted_chunks: int
    """Chunks the reads touch; one that several reads want counts for each, since nothing is kept between reads."""
    wanted_bytes: int
    """Stored bytes of the wanted chunks: what must be fetched besides the shard indexes."""
    wanted_shards: int
    """Different shards the reads touch."""
    least_bytes: int = 0
    """Stored bytes that no reader can do without: those of the different chunks, since it may keep one that several
    reads want at the same time; 0 where a part of a chunk is enough, or nobody said."""
    held_bytes: int = 0
    """Stored bytes that a reader may hold at once: what the `concurrent_reads` largest reads want, where an object of
    which every chunk is wanted counts whole; 0 where nobody said."""
    object_bytes: int = 0
    """Bytes of the different objects that the reads touch, whole; 0 where nobody said."""
    gap_bytes: tuple[int, ...]
    """Stored bytes between the first read's neighbouring wanted chunks in its first shard (empty for a whole shard)."""
    stream: Stream | None = None
    """Of a workload whose one read is executed window by window; `harness.workload.stream` makes reads of it. The
    sums above are then of all loops, but `held_bytes`, which is of the windows under way at once, and those that count
    different objects."""
    truth: Truth

    @property
    def label(self) -> str:
        """Short name for tables, e.g. ``chunks_of_one_shard small gap=1``."""
        return self.parameters.label(self.pattern, self.array.key)

    @property
    def digest(self) -> str:
        """Identity of the work itself, whatever the store's address and this machine's interfaces: 16 hex digits."""
        target = msgspec.structs.replace(self.target, endpoint=None, ca=None, nic=())
        same = msgspec.structs.replace(self, target=target, least_bytes=0, held_bytes=0, object_bytes=0)
        return hashlib.sha256(msgspec.json.encode(same)).hexdigest()[:16]

    @property
    def windows(self) -> int:
        """Windows of one loop; 0 where it is no stream."""
        if self.stream is None:
            return 0
        along = zip(self.reads[0], self.stream.window, strict=True)
        return math.prod(math.ceil((stop - start) / size) for (start, stop, _), size in along)

    @property
    def has_reads_that_meet(self) -> bool:
        """Whether several reads are under way at once that may want the same; the Rust reader has the same rule."""
        return self.concurrent_reads > 1 and len(self.reads) > 1 and self.stream is None

    @property
    def executed_reads(self) -> int:
        """Reads of one execution: of a stream, the windows of all loops."""
        return len(self.reads) if self.stream is None else self.windows * self.stream.loops

    @property
    def at_once_bytes(self) -> int:
        """Bytes of the final arrays that an execution holds at once: of a stream, of the windows under way."""
        if self.stream is None:
            return self.array_bytes
        along = zip(self.reads[0], self.stream.window, strict=True)
        window = tuple((start, min(stop, start + size), 1) for (start, stop, _), size in along)
        return min(self.concurrent_reads, self.windows) * selected_bytes(self.array, [window])

    def summary(self) -> dict[str, Any]:
        """Return what identifies the work, without its truth, which is as long as the workload is large."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        del fields["truth"]
        return fields | {"digest": self.digest}


def selected_bytes(array: ArrayInfo, reads: Iterable[Slices]) -> int:
    """Return the bytes of the final arrays of some reads."""
    return sum(map(selection_size, reads)) * np.dtype(array.dtype).itemsize


def check_memory(array_bytes: int, held_bytes: int = 0) -> None:
    """Refuse what takes more than a quarter of the memory; a TooLargeError says so.

    Parameters
    ----------
    array_bytes
        Of the final arrays.
    held_bytes
        Stored bytes that a reader may hold at once, as in `Workload`: a few decoded bytes may stand in a huge object.
    """
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for nbytes, what in ((array_bytes, "the arrays take"), (held_bytes, "the shards that are read whole take")):
        if nbytes > ram // _RAM_SHARE:
            raise TooLargeError(
                f"{what} {nbytes / 2**30:.1f} GiB, "
                f"more than a quarter of this machine's {ram / 2**30:.1f} GiB of memory"
            )


def encode(workload: Workload) -> bytes:
    """Return the workload as JSON."""
    return msgspec.json.format(msgspec.json.encode(workload), indent=1) + b"\n"


def decode(data: bytes | dict[str, Any], *, origin: str = "workload") -> Workload:
    """Read a workload from JSON text or from its parsed form.

    Raises
    ------
    BadUseError
        Not a workload, or one of another version.
    """
    try:
        fields = msgspec.json.decode(data) if isinstance(data, bytes) else data
        check_schema(fields, SCHEMA, origin)
        workload = msgspec.convert(fields, Workload)
        _check(workload)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, SyntaxError, RecursionError) as error:
        raise BadUseError(f"{origin} is not a workload file: {error} (`zcb workload` makes one)") from error
    check_memory(workload.at_once_bytes, workload.held_bytes)
    return workload


def _check(workload: Workload) -> None:
    """Refuse what no reader can execute; a ValueError says what."""
    array = workload.array
    _check_array(array)
    if not 1 <= workload.in_flight <= MOST_IN_FLIGHT or workload.concurrent_reads > MOST_IN_FLIGHT:
        raise ValueError(f"in_flight and concurrent_reads must be between 1 and {MOST_IN_FLIGHT}")
    if not workload.reads:
        raise ValueError("it has no reads")
    for read in workload.reads:
        _check_read(array, read)
    loops = 1 if workload.stream is None else workload.stream.loops
    if workload.array_bytes != loops * selected_bytes(array, workload.reads):
        raise ValueError("array_bytes is not the size of what its reads select")
    touched = sum(chunks_touched(read, array.chunk_shape) for read in workload.reads)
    if workload.stream is not None:
        _check_stream(workload, workload.stream)
    if touched > MAX_CHUNKS:
        raise ValueError(f"its reads touch {touched} chunks, more than {MAX_CHUNKS}")
    truths.check(workload.truth)


def _check_stream(workload: Workload, stream: Stream) -> None:
    if len(workload.reads) != 1 or any(step != 1 for _, _, step in workload.reads[0]):
        raise ValueError("a stream has one read without steps")
    if len(stream.window) != len(workload.array.shape):
        raise ValueError("a window has a length along each axis")
    if workload.executed_reads > MOST_WINDOWS:
        raise ValueError(f"a stream of {workload.executed_reads} windows has more than {MOST_WINDOWS}")
    if len(truths.unpack(stream.wanted_bytes)) != workload.windows:
        raise ValueError(f"its stream says the bytes of other than its {workload.windows} windows")
    if workload.truth.decoded_crc32c is not None:
        raise ValueError("the truth of a stream is that of its windows")


def _check_array(array: ArrayInfo) -> None:
    check_shapes(array.shape, array.shard_shape, array.chunk_shape)
    if math.prod(array.shape) > MAX_NBYTES:
        raise ValueError("its shape exceeds 2**60 elements")
    if any(part in (".", "..") for part in array.key.split("/")) or not array.key.isprintable():
        raise ValueError(f"key {array.key[:80]!r} leaves the target")
    element_type(array.dtype)
    if not array.is_sharded and array.chunk_shape != array.shard_shape:
        raise ValueError("its objects hold several chunks and no index")


def _check_read(array: ArrayInfo, read: Slices) -> None:
    if len(read) != len(array.shape):
        raise ValueError(f"a read has {len(read)} axes, the array {len(array.shape)}")
    for (start, stop, step), size in zip(read, array.shape, strict=True):
        if not 0 <= start < stop <= size or step < 1:
            raise ValueError(f"{start}:{stop}:{step} is no selection of an axis of {size}")


def verify(workload: Workload, arrays: Sequence[npt.NDArray[Any]], *, first: int = 0) -> None:
    """Compare the arrays a reader returned with the truth.

    Parameters
    ----------
    workload
        What was asked for.
    arrays
        One array per read, of the selection's shape and the array's dtype.
    first
        Number of the first read, for messages: of a stream's step, of its first window.

    Raises
    ------
    WrongDataError
        A wrong number, shape, dtype or element; the message names the first bad read or chunk.
    """
    truths.verify(workload.truth, workload.array, workload.reads, arrays, first=first)
