"""Making a pattern concrete for a dataset."""

from collections.abc import Callable

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
from harness.workload.patterns import Parameters, Pattern, pattern, selection_size
from harness.workload.selections import chunks_by_shard, covers_whole_chunks, wanted_chunks
from harness.workload.truth import Truth

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
    truth = expected.of_chunks(known, wanted) if whole else expected.of_reads(target, known, array, reads, indexes)
    return msgspec.structs.replace(made, truth=truth)


def _described(target: Target, dataset: str | None, default: str) -> tuple[Target, ArrayInfo, Manifest | None]:
    """Return the target, an array there and its manifest; None where the array at the URL itself is meant."""
    there = arrays.at_url(target) if dataset is None else None
    if there is not None:
        return *there, None
    known = manifest.load(target, default if dataset is None else dataset)
    return target, arrays.of_spec(known.spec), known


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
