"""Making a pattern concrete for a dataset."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from harness.datasets import manifest, places
from harness.datasets.array import ArrayInfo
from harness.datasets.array import grid as grid_of
from harness.datasets.indexes import read_indexes
from harness.datasets.manifest import Manifest
from harness.datasets.metadata import of_spec
from harness.datasets.shards import MISSING, ShardIndex
from harness.errors import BadUseError
from harness.targets.lock import measurement_lock
from harness.targets.target import Target
from harness.workload import expected, stream
from harness.workload import truth as truths
from harness.workload.model import DEFAULT_IN_FLIGHT, MOST_IN_FLIGHT, SCHEMA, Workload, check_memory, selected_bytes
from harness.workload.patterns import Parameters, Pattern, pattern
from harness.workload.placement import Slices, StoredShard
from harness.workload.selections import chunks_by_shard, covers_whole_chunks, wanted_chunks
from harness.workload.truth import Truth

_INDIVISIBLE = {"zstd", "gzip", "blosc", "blosc-lz4"}
"""Codecs of which no part of a chunk can be decoded without all of its bytes."""

_DIVISIBLE = {"sharding_indexed"}
"""Codecs whose chunks can be read without some of their bytes, though they are wanted whole."""

_SHARDS_LOOKED_AT = 64
"""Shards of which one has to be stored, where a pattern wants chunks of the first."""

Indexes = Mapping[tuple[int, ...], ShardIndex]
"""Of shards, by their coordinates."""

ByShard = Mapping[tuple[int, ...], tuple[npt.NDArray[np.intp], ...]]
"""The wanted chunks inside each shard, as `chunks_by_shard` groups them."""

Agreement = Callable[[Workload], Truth]
"""Returns the truth of a workload whose own is unknown."""


def create_workload(
    pattern_name: str,
    target: Target,
    *,
    dataset: str | None = None,
    array: str | None = None,
    parameters: Parameters | None = None,
    in_flight: int = DEFAULT_IN_FLIGHT,
    agree: Agreement | None = None,
) -> Workload:
    """Make a pattern concrete for a dataset at `target`: the array at its URL, else by default the pattern's own.

    Reads the manifest and the shard indexes touched, and the chunks themselves where they are wanted in part.

    Parameters
    ----------
    array
        Path below the target's URL of an array that is read without a manifest, as one in a group.
    agree
        Finds the truth of an array without a manifest; None refuses such an array.

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
    if dataset is not None and array is not None:
        raise BadUseError("--dataset and --array exclude each other: a data set is named with its manifest")
    rule, asked = pattern(pattern_name), parameters or Parameters()
    with measurement_lock(target):
        return _made(rule, *_described(target, dataset, array, rule.dataset), asked, in_flight, agree)


def _made(
    rule: Pattern,
    target: Target,
    array: ArrayInfo,
    known: Manifest | None,
    asked: Parameters,
    in_flight: int,
    agree: Agreement | None,
) -> Workload:
    rule.check(asked)
    if rule.of_shards and not array.is_sharded:
        raise BadUseError(
            f"{rule.name} needs shards, and {array.key!r} has none: each of its chunks is an object of its own, "
            "which whole_array and random_crops read"
        )
    first_shard = None if array.subchunk_order == "c" else functools.partial(_first_shard, target, array)
    draft = Workload(
        schema=SCHEMA,
        pattern=rule.name,
        parameters=asked,
        target=target,
        array=array,
        in_flight=in_flight,
        reads=rule.selections(array, asked, first_shard),
        concurrent_reads=asked.concurrent_reads or rule.concurrent_reads,
        array_bytes=0,
        wanted_chunks=0,
        wanted_bytes=0,
        wanted_shards=0,
        gap_bytes=(),
        truth=truths.UNKNOWN,
    )
    return _streamed(stream.planned(draft), known, agree) if rule.in_windows else _counted(draft, known, agree)


def _streamed(draft: Workload, known: Manifest | None, agree: Agreement | None) -> Workload:
    """Return a stream with what its windows come to at the target, and its truth."""
    array = draft.array
    grid = grid_of([stop for _, stop, _ in draft.reads[0]], array.shard_shape)
    shards = list(itertools.product(*map(range, grid)))
    indexes = read_indexes(draft.target, array, shards, may_miss=known is None)
    stored = stream.StoredBytes(
        wanted=np.array([_stored_inside(array, shard, indexes[shard]) for shard in shards], np.uint64).reshape(grid),
        objects=np.array([indexes[shard].object_nbytes or 0 for shard in shards], np.uint64).reshape(grid),
    )
    made = stream.counted(draft, stored, None if known is None else known.decoded_crc32c)
    return made if known is not None else _agreed(made, agree)


def _stored_inside(array: ArrayInfo, shard: tuple[int, ...], index: ShardIndex) -> int:
    """Return the stored bytes of a shard's chunks that lie inside the array."""
    chunks = zip(grid_of(array.shape, array.chunk_shape), shard, array.chunks_per_shard, strict=True)
    inside = tuple(slice(0, min(count, total - at * count)) for total, at, count in chunks)
    lengths = index.lengths[inside]
    return int(lengths[index.offsets[inside] != MISSING].sum())


def _agreed(made: Workload, agree: Agreement | None) -> Workload:
    """Return a workload of an array without a manifest with the truth that readers agree on."""
    if agree is None:
        raise BadUseError(
            f"{made.array.key!r} at {made.target.url} has no manifest: only `zcb workload` can do with that"
        )
    return msgspec.structs.replace(made, truth=agree(made))


def _counted(draft: Workload, known: Manifest | None, agree: Agreement | None) -> Workload:
    """Return a workload with what its reads come to at the target, and its truth."""
    array, reads = draft.array, draft.reads
    array_bytes = selected_bytes(array, reads)
    check_memory(array_bytes)
    per_read = [chunks_by_shard(array, list(wanted_chunks(array, read))) for read in reads]
    shards = list(dict.fromkeys(shard for by_shard in per_read for shard in by_shard))
    indexes = read_indexes(draft.target, array, shards, may_miss=known is None)
    held_bytes = sum(sorted(_held_bytes(indexes, by_shard) for by_shard in per_read)[-draft.concurrent_reads :])
    check_memory(array_bytes, held_bytes)
    made = msgspec.structs.replace(
        draft,
        array_bytes=array_bytes,
        wanted_chunks=sum(len(inner[0]) for by_shard in per_read for inner in by_shard.values()),
        wanted_bytes=sum(_stored_bytes(indexes, by_shard) for by_shard in per_read),
        least_bytes=_least_bytes(array, indexes, reads),
        held_bytes=held_bytes,
        object_bytes=sum(indexes[shard].object_nbytes or 0 for shard in shards),
        wanted_shards=len(shards),
        gap_bytes=_gaps(indexes, per_read[0]),
    )
    if known is None:
        return _agreed(made, agree)
    if _wants_whole_chunks(array, reads):
        truth = expected.of_chunks(known, [chunk for read in reads for chunk in wanted_chunks(array, read)])
    else:
        truth = expected.of_reads(draft.target, known, array, reads, indexes)
    return msgspec.structs.replace(made, truth=truth)


def elsewhere(workload: Workload, most: int) -> list[Workload]:
    """Return the same workload on other objects: reads moved by whole shards, so that no two share one.

    Parameters
    ----------
    workload
        What is moved; it is not among what is returned.
    most
        How many at most. There are fewer where the array has no more shards, none without a manifest, where the truth
        of other chunks is unknown, and none of a stream, which reads all there is.

    Raises
    ------
    StoreError
        The target cannot be reached.
    """
    if workload.truth.agreed_by or workload.stream is not None:
        return []
    moved = itertools.islice(_moved(workload), most)
    known = manifest.load(workload.target, workload.array.key)
    with measurement_lock(workload.target):
        return [_counted(msgspec.structs.replace(workload, reads=reads), known, None) for reads in moved]


def beginning(workload: Workload, count: int) -> Workload:
    """Return a workload of the first `count` crops of one whose truth is that of its reads.

    Raises
    ------
    StoreError
        The target cannot be reached.
    """
    known = truths.known_reads(workload.truth)[:count]
    truth = msgspec.structs.replace(workload.truth, reads_crc32c=truths.pack(known))
    draft = msgspec.structs.replace(
        workload,
        parameters=msgspec.structs.replace(workload.parameters, crops=count),
        reads=workload.reads[:count],
    )
    with measurement_lock(workload.target):
        return _counted(draft, None, lambda _: truth)


def _moved(workload: Workload) -> Iterator[tuple[Slices, ...]]:
    """Yield the reads of a workload moved by whole shards, each time to shards that no other time touches."""
    array = workload.array
    shards = np.array(
        [at for read in workload.reads for at in chunks_by_shard(array, list(wanted_chunks(array, read)))]
    )
    first, size = shards.min(axis=0), np.ptp(shards, axis=0) + 1
    axes = [
        range(start % step, count - step + 1, step)
        for start, step, count in zip(first, size, array.shard_grid, strict=True)
    ]
    for place in itertools.product(*axes):
        shift = (np.array(place) - first) * array.shard_shape
        reads = tuple(
            tuple((begin + by, end + by, step) for (begin, end, step), by in zip(read, shift.tolist(), strict=True))
            for read in workload.reads
        )
        inside = all(end <= length for read in reads for (_, end, _), length in zip(read, array.shape, strict=True))
        if inside and shift.any():
            yield reads


def _described(
    target: Target, dataset: str | None, path: str | None, default: str
) -> tuple[Target, ArrayInfo, Manifest | None]:
    """Return the target, an array there and its manifest; None where the array at a URL or path itself is meant."""
    if path is not None:
        return target, places.below(target, path), None
    there = places.at_url(target) if dataset is None else None
    if there is not None:
        return *there, None
    known = manifest.load(target, default if dataset is None else dataset)
    return target, of_spec(known.spec), known


def _first_shard(target: Target, array: ArrayInfo) -> StoredShard:
    """Return the first of the first shards that is stored; a BadUseError says that none is."""
    shards = itertools.islice(itertools.product(*map(range, array.shard_grid)), _SHARDS_LOOKED_AT)
    for some in (itertools.islice(shards, 1), shards):  # all but the first only where it is not there
        for shard, index in read_indexes(target, array, list(some), may_miss=True).items():
            stored = (index.offsets != MISSING).ravel()
            if stored.any():
                ranks = np.full(stored.size, -1)
                ranks[np.argsort(np.where(stored, index.offsets.ravel(), MISSING))[: stored.sum()]] = range(
                    int(stored.sum())
                )
                return StoredShard(shard, ranks.tolist())
    raise BadUseError(f"of {array.key!r} the first {_SHARDS_LOOKED_AT} shards are not stored: read it by random_crops")


def _wants_whole_chunks(array: ArrayInfo, reads: Sequence[Slices]) -> bool:
    return all(covers_whole_chunks(read, array.chunk_shape) for read in reads)


def _held_bytes(indexes: Indexes, by_shard: ByShard) -> int:
    """Return what a read may fetch: an object of which every chunk is wanted comes whole, whatever else it holds."""
    held = 0
    for shard, inner in by_shard.items():
        index = indexes[shard]
        size = index.object_nbytes if len(inner[0]) == index.offsets.size else None
        held += _stored_bytes(indexes, {shard: inner}) if size is None else size
    return held


def _least_bytes(array: ArrayInfo, indexes: Indexes, reads: Sequence[Slices]) -> int:
    """Return the stored bytes that no reader can do without, as `Workload.least_bytes` says."""
    codecs = set(array.codec.split("+"))
    if codecs & _DIVISIBLE or not (codecs & _INDIVISIBLE or _wants_whole_chunks(array, reads)):
        return 0
    different = {chunk for read in reads for chunk in wanted_chunks(array, read)}
    return _stored_bytes(indexes, chunks_by_shard(array, list(different)))


def _stored_bytes(indexes: Indexes, by_shard: ByShard) -> int:
    total = 0
    for shard, inner in by_shard.items():
        stored = indexes[shard].offsets[inner] != MISSING
        total += int(indexes[shard].lengths[inner][stored].sum())
    return total


def _gaps(indexes: Indexes, by_shard: ByShard) -> tuple[int, ...]:
    shard, inner = next(iter(by_shard.items()))
    index = indexes[shard]
    if len(inner[0]) == index.offsets.size:
        return ()
    begins, lengths = index.offsets[inner], index.lengths[inner]
    stored = begins != MISSING
    begin, end = np.sort(begins[stored]), np.sort((begins + lengths)[stored])
    return tuple(int(gap) for gap in begin[1:] - end[:-1])
