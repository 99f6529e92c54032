"""Workloads: a pattern made concrete for a dataset, as a versioned JSON file that every reader executes alike.

docs/workload.md describes the format for readers in other languages.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import psutil

from harness import arrays, manifest
from harness import truth as truths
from harness.arrays import ArrayInfo
from harness.errors import BadUseError, TooLargeError
from harness.manifest import Manifest
from harness.patterns import Parameters, Pattern, Slices, pattern, selection_size
from harness.selections import covers_whole_chunks
from harness.shards import MISSING, ShardIndex, read_indexes
from harness.store.alone import alone_at
from harness.targets import Target
from harness.truth import Truth

SCHEMA = 1
DEFAULT_IN_FLIGHT = 100
MOST_IN_FLIGHT = 10_000
_RAM_SHARE = 4


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
    gap_bytes: tuple[int, ...]
    """Stored bytes between the first read's neighbouring wanted chunks in its first shard (empty for a whole shard)."""
    truth: Truth

    @property
    def label(self) -> str:
        """Short name for tables, e.g. ``chunks_of_one_shard small gap=1``."""
        given = (f"{name}={Parameters.text(value)}" for name, value in self.parameters.given().items())
        return " ".join([self.pattern, self.array.key.rpartition("/")[2], *given])

    @property
    def digest(self) -> str:
        """Identity of the work itself, whatever the store's address and this machine's interfaces: 16 hex digits."""
        same = msgspec.structs.replace(self, target=msgspec.structs.replace(self.target, endpoint=None, nic=()))
        return hashlib.sha256(msgspec.json.encode(same)).hexdigest()[:16]


Agreement = Callable[[Workload], Truth]
"""Returns the truth of a workload whose own is unknown."""


def create(
    pattern_name: str,
    target: Target,
    *,
    dataset: str | None = None,
    parameters: Parameters | None = None,
    in_flight: int = DEFAULT_IN_FLIGHT,
    agree: Agreement | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Workload:
    """Make a pattern concrete for a dataset at `target`: the array at its URL, else by default the pattern's own.

    Reads the manifest and the shard indexes touched, and the chunks themselves where they are wanted in part.

    Parameters
    ----------
    agree
        Finds the truth of an array without a manifest; None refuses such an array.
    say
        Told when a measurement on the same store has to end first, which would count these requests as its own.

    Raises
    ------
    BadUseError
        Unknown pattern or dataset, parameters the dataset is too small for, or an array too large for the memory.
    StoreError
        The target cannot be reached.
    MeasurementError
        A chunk wanted in part is damaged.
    """
    if not 1 <= in_flight <= MOST_IN_FLIGHT:
        raise BadUseError(f"in flight must be between 1 and {MOST_IN_FLIGHT}, not {in_flight}")
    rule, asked = pattern(pattern_name), parameters or Parameters()
    with alone_at(target, say):
        return _made(rule, target, dataset, asked, in_flight, agree)


def _made(
    rule: Pattern, target: Target, dataset: str | None, asked: Parameters, in_flight: int, agree: Agreement | None
) -> Workload:
    target, array, known = _described(target, dataset, rule.dataset)
    reads = rule.selections(array, asked)
    array_bytes = sum(map(selection_size, reads)) * np.dtype(array.dtype).itemsize
    _check_memory(array_bytes)
    wanted = [chunk for read in reads for chunk in wanted_chunks(array, read)]
    by_shard = chunks_by_shard(array, wanted)
    indexes = read_indexes(target, array, list(by_shard))
    made = Workload(
        schema=SCHEMA,
        pattern=rule.name,
        parameters=asked,
        target=target,
        array=array,
        in_flight=in_flight,
        reads=reads,
        concurrent_reads=asked.concurrent_reads or rule.concurrent_reads,
        array_bytes=array_bytes,
        wanted_chunks=len(wanted),
        wanted_bytes=sum(_stored_bytes(indexes[shard], inner) for shard, inner in by_shard.items()),
        wanted_shards=len(by_shard),
        gap_bytes=_gaps(indexes, chunks_by_shard(array, list(wanted_chunks(array, reads[0])))),
        truth=truths.UNKNOWN,
    )
    if known is None:
        if agree is None:
            raise BadUseError(f"{array.key!r} at {target.url} has no manifest: only `zcb workload` can do with that")
        return msgspec.structs.replace(made, truth=agree(made))
    whole = all(covers_whole_chunks(read, array.chunk_shape) for read in reads)
    truth = truths.of_chunks(known, wanted) if whole else truths.of_reads(target, known, array, reads, indexes)
    return msgspec.structs.replace(made, truth=truth)


def _described(target: Target, dataset: str | None, default: str) -> tuple[Target, ArrayInfo, Manifest | None]:
    """Return the target, an array there and its manifest; None where the array at the URL itself is meant."""
    there = arrays.at_url(target) if dataset is None else None
    if there is not None:
        return *there, None
    known = manifest.load(target, default if dataset is None else dataset)
    return target, arrays.of_spec(known.spec), known


def wanted_chunks(array: ArrayInfo, read: Slices) -> Iterator[tuple[int, ...]]:
    """Yield the grid coordinates of the chunks a selection touches, in C order."""
    axes = [np.unique(np.arange(*axis) // size) for axis, size in zip(read, array.chunk_shape, strict=True)]
    yield from itertools.product(*(axis.tolist() for axis in axes))


def chunks_by_shard(
    array: ArrayInfo, wanted: Sequence[tuple[int, ...]]
) -> dict[tuple[int, ...], tuple[npt.NDArray[np.intp], ...]]:
    """Group chunks by shard: shard coordinates -> index arrays (one per axis) of the chunks inside it."""
    per_shard = array.chunks_per_shard
    groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for chunk in wanted:
        shard = tuple(c // n for c, n in zip(chunk, per_shard, strict=True))
        groups.setdefault(shard, []).append(tuple(c % n for c, n in zip(chunk, per_shard, strict=True)))
    return {shard: tuple(np.array(inner).T) for shard, inner in groups.items()}


def _stored_bytes(index: ShardIndex, inner: tuple[npt.NDArray[np.intp], ...]) -> int:
    stored = index.offsets[inner] != MISSING
    return int(index.lengths[inner][stored].sum())


def _gaps(
    indexes: dict[tuple[int, ...], ShardIndex],
    by_shard: dict[tuple[int, ...], tuple[npt.NDArray[np.intp], ...]],
) -> tuple[int, ...]:
    shard, inner = next(iter(by_shard.items()))
    index = indexes[shard]
    if len(inner[0]) == index.offsets.size:
        return ()
    begins, lengths = index.offsets[inner], index.lengths[inner]
    stored = begins != MISSING
    begin, end = np.sort(begins[stored]), np.sort((begins + lengths)[stored])
    return tuple(int(gap) for gap in begin[1:] - end[:-1])


def _check_memory(array_bytes: int) -> None:
    ram = psutil.virtual_memory().total
    if array_bytes > ram // _RAM_SHARE:
        raise TooLargeError(
            f"the arrays take {array_bytes / 2**30:.1f} GiB, "
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
        if isinstance(fields, dict) and fields.get("schema") != SCHEMA:
            raise BadUseError(f"{origin} has schema {fields.get('schema')!r}; this version reads {SCHEMA}")
        workload = msgspec.convert(fields, Workload)
        _check(workload)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise BadUseError(f"{origin} is not a workload file: {error}") from error
    _check_memory(workload.array_bytes)
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
    if workload.array_bytes != sum(map(selection_size, workload.reads)) * np.dtype(array.dtype).itemsize:
        raise ValueError("array_bytes is not the size of what its reads select")
    truths.check(workload.truth)


def _check_array(array: ArrayInfo) -> None:
    axes = {len(array.shape), len(array.chunk_shape), len(array.shard_shape)}
    if len(axes) != 1 or not array.shape:
        raise ValueError("its shapes have no axes, or different numbers of them")
    if min(*array.shape, *array.chunk_shape, *array.shard_shape) < 1:
        raise ValueError("its shapes have a length below 1")
    if math.prod(array.shape) > manifest.MAX_NBYTES:
        raise ValueError("its shape exceeds 2**60 elements")
    if any(shard % chunk for shard, chunk in zip(array.shard_shape, array.chunk_shape, strict=True)):
        raise ValueError("its chunks do not divide its shards")
    if any(part in (".", "..") for part in array.key.split("/")) or not array.key.isprintable():
        raise ValueError(f"key {array.key[:80]!r} leaves the target")
    if np.dtype(array.dtype).kind not in "biufc":
        raise ValueError(f"{array.dtype!r} is not the type of a number")


def _check_read(array: ArrayInfo, read: Slices) -> None:
    if len(read) != len(array.shape):
        raise ValueError(f"a read has {len(read)} axes, the array {len(array.shape)}")
    for (start, stop, step), size in zip(read, array.shape, strict=True):
        if not 0 <= start < stop <= size or step < 1:
            raise ValueError(f"{start}:{stop}:{step} is no selection of an axis of {size}")


def load(path: Path) -> Workload:
    """Read a workload file; a BadUseError says what is wrong with it."""
    try:
        return decode(path.read_bytes(), origin=str(path))
    except OSError as error:
        raise BadUseError(f"cannot read {path}: {error.strerror}") from error


def verify(workload: Workload, arrays: Sequence[npt.NDArray[Any]]) -> None:
    """Compare the arrays a reader returned with the truth.

    Parameters
    ----------
    workload
        What was asked for.
    arrays
        One array per read, of the selection's shape and the array's dtype.

    Raises
    ------
    MeasurementError
        A wrong number, shape, dtype or element; the message names the first bad read or chunk.
    """
    truths.verify(workload.truth, workload.array, workload.reads, arrays)
