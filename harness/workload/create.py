"""Making a pattern concrete for a dataset."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from harness.datasets import manifest
from harness.datasets import metadata as arrays
from harness.datasets.array import ArrayInfo
from harness.datasets.indexes import read_indexes
from harness.datasets.manifest import Manifest
from harness.datasets.shards import MISSING, ShardIndex
from harness.errors import BadUseError
from harness.targets.lock import measurement_lock
from harness.targets.target import Target
from harness.workload import expected
from harness.workload import truth as truths
from harness.workload.model import DEFAULT_IN_FLIGHT, MOST_IN_FLIGHT, SCHEMA, Workload, check_memory
from harness.workload.patterns import Parameters, Pattern, Slices, pattern, selection_size
from harness.workload.selections import chunks_by_shard, covers_whole_chunks, wanted_chunks
from harness.workload.truth import Truth

_INDIVISIBLE = {"zstd", "gzip", "blosc", "blosc-lz4"}
"""Codecs of which no part of a chunk can be decoded without all of its bytes."""

_DIVISIBLE = {"sharding_indexed"}
"""Codecs whose chunks can be read without some of their bytes, though they are wanted whole."""

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
    parameters: Parameters | None = None,
    in_flight: int = DEFAULT_IN_FLIGHT,
    agree: Agreement | None = None,
) -> Workload:
    """Make a pattern concrete for a dataset at `target`: the array at its URL, else by default the pattern's own.

    Reads the manifest and the shard indexes touched, and the chunks themselves where they are wanted in part.

    Parameters
    ----------
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
    rule, asked = pattern(pattern_name), parameters or Parameters()
    with measurement_lock(target):
        return _made(rule, target, dataset, asked, in_flight, agree)


def _made(
    rule: Pattern, target: Target, dataset: str | None, asked: Parameters, in_flight: int, agree: Agreement | None
) -> Workload:
    target, array, known = _described(target, dataset, rule.dataset)
    reads = rule.selections(array, asked)
    array_bytes = sum(map(selection_size, reads)) * np.dtype(array.dtype).itemsize
    check_memory(array_bytes)
    per_read = [chunks_by_shard(array, list(wanted_chunks(array, read))) for read in reads]
    shards = list(dict.fromkeys(shard for by_shard in per_read for shard in by_shard))
    indexes = read_indexes(target, array, shards)
    at_once = asked.concurrent_reads or rule.concurrent_reads
    held_bytes = sum(sorted(_held_bytes(indexes, by_shard) for by_shard in per_read)[-at_once:])
    check_memory(array_bytes, held_bytes)
    made = Workload(
        schema=SCHEMA,
        pattern=rule.name,
        parameters=asked,
        target=target,
        array=array,
        in_flight=in_flight,
        reads=reads,
        concurrent_reads=at_once,
        array_bytes=array_bytes,
        wanted_chunks=sum(len(inner[0]) for by_shard in per_read for inner in by_shard.values()),
        wanted_bytes=sum(_stored_bytes(indexes, by_shard) for by_shard in per_read),
        least_bytes=_least_bytes(array, indexes, reads),
        held_bytes=held_bytes,
        object_bytes=sum(indexes[shard].object_nbytes or 0 for shard in shards),
        wanted_shards=len(shards),
        gap_bytes=_gaps(indexes, per_read[0]),
        truth=truths.UNKNOWN,
    )
    if known is None:
        if agree is None:
            raise BadUseError(f"{array.key!r} at {target.url} has no manifest: only `zcb workload` can do with that")
        return msgspec.structs.replace(made, truth=agree(made))
    if _wants_whole_chunks(array, reads):
        truth = expected.of_chunks(known, [chunk for read in reads for chunk in wanted_chunks(array, read)])
    else:
        truth = expected.of_reads(target, known, array, reads, indexes)
    return msgspec.structs.replace(made, truth=truth)


def _described(target: Target, dataset: str | None, default: str) -> tuple[Target, ArrayInfo, Manifest | None]:
    """Return the target, an array there and its manifest; None where the array at the URL itself is meant."""
    there = arrays.at_url(target) if dataset is None else None
    if there is not None:
        return *there, None
    known = manifest.load(target, default if dataset is None else dataset)
    return target, arrays.of_spec(known.spec), known


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
