"""Which chunks of a shard one selection can want with other stored chunks between them."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

Slices = tuple[tuple[int, int, int], ...]
"""One selection: ``(start, stop, step)`` per axis, all non-negative, stop exclusive."""

_TRIED = 100_000
"""Selections that are looked at: a huge shard in an odd order may have more."""
_STARTS = 64
"""Chunks that a selection may begin with, where it cannot begin in the shard's corner."""


class StoredShard(NamedTuple):
    """The chunks of a shard in the order of their offsets."""

    at: tuple[int, ...]
    """Coordinates of the shard in the grid of shards."""
    ranks: Sequence[int]
    """Of each chunk, in C order of the shard: its place among the stored ones, from 0; -1 for one that is not."""


class Shapes(Protocol):
    """Elements per axis of an array, of its chunks and of its shards."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Of an inner chunk."""

    @property
    def shard_shape(self) -> tuple[int, ...]:
        """Of a shard."""


class _Lattice(NamedTuple):
    """Chunks of a shard at equal steps along each axis: what a selection with steps can want."""

    start: tuple[int, ...]
    counts: tuple[int, ...]
    steps: tuple[int, ...]
    """In chunks."""


def with_gap(spec: Shapes, shard: StoredShard, chunks: int, gap: int) -> Slices | None:
    """Select `chunks` stored chunks of a shard with `gap` stored ones between each two, as nearly as one selection can.

    It is exact in a shard whose order allows it, as along the last axis of C order. A step over chunks longer than one
    element wants one element of each along that axis: no less than the chunk has to be fetched for it.

    Returns
    -------
    Slices or None
        None where not as many chunks are stored.
    """
    per_shard = [size // part for size, part in zip(spec.shard_shape, spec.chunk_shape, strict=True)]
    if (chunks - 1) * (gap + 1) >= sum(rank >= 0 for rank in shard.ranks):
        return None
    inside = [
        min(count, -(-(length - at * size) // part))  # the array may end within the shard
        for count, length, at, size, part in zip(
            per_shard, spec.shape, shard.at, spec.shard_shape, spec.chunk_shape, strict=True
        )
    ]
    best: tuple[int, _Lattice] | None = None
    for lattice in itertools.islice(_lattices(shard, per_shard, inside, chunks, gap), _TRIED):
        misfit = _misfit(lattice, per_shard, shard.ranks, gap)
        if misfit is not None and (best is None or misfit < best[0]):
            best = misfit, lattice
            if misfit == 0:
                break
    return None if best is None else _slices(spec, shard.at, per_shard, best[1])


def _lattices(
    shard: StoredShard, per_shard: Sequence[int], inside: Sequence[int], chunks: int, gap: int
) -> Iterator[_Lattice]:
    """Yield what may be selected: from the shard's corner first, along the first axes first."""
    corner = (0,) * len(inside)
    stored = (number for number, rank in enumerate(shard.ranks) if rank >= 0)
    others = (_place(number, per_shard) for number in itertools.islice(stored, _STARTS))
    for start in dict.fromkeys([corner, *others]):
        room = [size - begin for size, begin in zip(inside, start, strict=True)]
        if min(room) < 1:
            continue
        for counts in sorted(_factored(chunks, room), key=lambda counts: sum(count > 1 for count in counts)):
            steps = [
                range(1, min(gap + 1, (size - 1) // (count - 1)) + 1) if count > 1 else (1,)
                for count, size in zip(counts, room, strict=True)
            ]
            yield from (_Lattice(start, counts, step) for step in itertools.product(*steps))


def _factored(number: int, most: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the ways to write a number as a product of one factor per axis, the first axis's largest first."""
    if not most:
        if number == 1:
            yield ()
        return
    for first in range(min(number, most[0]), 0, -1):
        if number % first == 0:
            yield from ((first, *rest) for rest in _factored(number // first, most[1:]))


def _misfit(lattice: _Lattice, per_shard: Sequence[int], ranks: Sequence[int], gap: int) -> int | None:
    """Return by how many chunks the gaps differ from what is asked for at most; None where a chunk is not stored."""
    axes = zip(lattice.start, lattice.counts, lattice.steps, strict=True)
    places = itertools.product(*(range(start, start + count * step, step) for start, count, step in axes))
    strides = [math.prod(per_shard[axis + 1 :]) for axis in range(len(per_shard))]
    found = sorted(ranks[sum(map(int.__mul__, place, strides))] for place in places)
    if found[0] < 0:
        return None
    return max((abs(after - before - 1 - gap) for before, after in itertools.pairwise(found)), default=0)


def _place(number: int, per_shard: Sequence[int]) -> tuple[int, ...]:
    """Return the coordinates in a shard of a chunk, by its place in C order."""
    place = []
    for size in reversed(per_shard):
        number, inside = divmod(number, size)
        place.append(inside)
    return tuple(reversed(place))


def _slices(spec: Shapes, at: Sequence[int], per_shard: Sequence[int], lattice: _Lattice) -> Slices:
    axes = []
    for axis, (start, count, step) in enumerate(zip(*lattice, strict=True)):
        size = spec.chunk_shape[axis]
        begin = (at[axis] * per_shard[axis] + start) * size
        end = begin + (count * size if step == 1 else (count - 1) * step * size + 1)
        axes.append((begin, min(end, spec.shape[axis]), 1 if step == 1 else step * size))
    return tuple(axes)
