"""Selections against the chunk grid: which part of which chunk lands where in the array that a read returns."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.datasets.array import ArrayInfo
from harness.workload.placement import Slices


class Piece(NamedTuple):
    """What one chunk contributes to one read."""

    chunk: tuple[int, ...]
    """Coordinates in the array's chunk grid."""
    in_chunk: tuple[slice, ...]
    """The wanted elements inside the chunk."""
    in_read: tuple[slice, ...]
    """Where they stand in the array that the read returns."""


def pieces(read: Slices, chunk_shape: Sequence[int]) -> Iterator[Piece]:
    """Yield the pieces of a selection, chunks in C order of the grid; a chunk that strides skip yields none."""
    axes = [list(_along(axis, size)) for axis, size in zip(read, chunk_shape, strict=True)]
    for parts in itertools.product(*axes):
        chunk, in_chunk, in_read = zip(*parts, strict=True)
        yield Piece(chunk, in_chunk, in_read)


def covers_whole_chunks(read: Slices, chunk_shape: Sequence[int]) -> bool:
    """Whether every chunk that a selection touches is wanted with all of its elements."""
    return all(
        size == 1 or (step == 1 and start % size == 0 and stop % size == 0)
        for (start, stop, step), size in zip(read, chunk_shape, strict=True)
    )


def _along(axis: tuple[int, int, int], size: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield chunk number, slice inside the chunk and slice of the read along one axis."""
    start, stop, step = axis
    count, done = len(range(*axis)), 0
    while done < count:
        first = start + done * step
        number = first // size
        end = min(stop, (number + 1) * size)
        length = len(range(first, end, step))
        yield number, slice(first - number * size, end - number * size, step), slice(done, done + length)
        done += length


def chunks_touched(read: Slices, chunk_shape: Sequence[int]) -> int:
    """Return how many pieces a selection has."""
    return math.prod(_count_along(axis, size) for axis, size in zip(read, chunk_shape, strict=True))


def _count_along(axis: tuple[int, int, int], size: int) -> int:
    taken = range(*axis)
    return len(taken) if taken.step >= size else taken[-1] // size - taken[0] // size + 1


class Box(NamedTuple):
    """A call that a library without strides can carry out, and what to make of its answer."""

    wanted: tuple[slice, ...]
    """Elements of the array to ask for, step 1."""
    of_answer: tuple[slice, ...]
    """Elements of the answer that the read wants."""
    in_read: tuple[slice, ...]
    """Where they stand in the array that the read returns."""


def boxes(read: Slices, chunk_shape: Sequence[int]) -> list[Box]:
    """Return the calls that make up a read: one where no axis strides, else one per chunk."""
    if all(step == 1 or len(range(start, stop, step)) == 1 for start, stop, step in read):
        lengths = [len(range(*axis)) for axis in read]
        everything = tuple(slice(0, length) for length in lengths)
        wanted = tuple(slice(axis[0], axis[0] + length) for axis, length in zip(read, lengths, strict=True))
        return [Box(wanted, everything, everything)]
    return boxes_of_cells(read, chunk_shape)


def boxes_of_cells(read: Slices, cell_shape: Sequence[int]) -> list[Box]:
    """Return a call for each cell of a grid, of chunks or of shards, that a read touches."""
    return [_around(piece, cell_shape) for piece in pieces(read, cell_shape)]


def _around(piece: Piece, chunk_shape: Sequence[int]) -> Box:
    wanted = []
    for number, inside, size in zip(piece.chunk, piece.in_chunk, chunk_shape, strict=True):
        last = range(inside.start, inside.stop, inside.step)[-1]
        wanted.append(slice(number * size + inside.start, number * size + last + 1))
    return Box(tuple(wanted), tuple(slice(None, None, inside.step) for inside in piece.in_chunk), piece.in_read)


def wanted_chunks(array: ArrayInfo, read: Slices) -> Iterator[tuple[int, ...]]:
    """Yield the grid coordinates of the chunks a selection touches, in C order."""
    axes = zip(read, array.chunk_shape, strict=True)
    yield from itertools.product(*([number for number, _, _ in _along(axis, size)] for axis, size in axes))


def chunks_by_shard(
    array: ArrayInfo, wanted: Sequence[tuple[int, ...]]
) -> dict[tuple[int, ...], tuple[npt.NDArray[np.intp], ...]]:
    """Group chunks by shard: shard coordinates -> index arrays (one per axis) of the chunks inside it."""
    groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for chunk in wanted:
        shard, inner = array.place(chunk)
        groups.setdefault(shard, []).append(inner)
    return {shard: tuple(np.array(places).T) for shard, places in groups.items()}
