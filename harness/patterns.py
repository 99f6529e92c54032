"""Read patterns: which chunks of a dataset are wanted, as basic selections in the array's index space."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from harness.errors import BadUseError
from harness.manifest import DatasetSpec

Slices = tuple[tuple[int, int, int], ...]
"""One selection: ``(start, stop, step)`` per axis, all non-negative, stop exclusive."""

DEFAULT_CHUNKS = 4
"""Chunks wanted of each shard by the few-chunk patterns."""


class Parameters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a pattern can be asked for; None is the pattern's own default."""

    gap: int | None = None
    """Stored chunks between two wanted ones of a shard."""
    shards: int | None = None
    """Shards touched."""
    chunks: int | None = None
    """Chunks wanted of each shard."""


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A named rule that turns a dataset and parameters into selections."""

    name: str
    question: str
    """What a user learns from it, in one line."""
    accepts: frozenset[str]
    """The fields of `Parameters` it understands."""
    select: Callable[[DatasetSpec, Parameters], tuple[Slices, ...]]

    def selections(self, spec: DatasetSpec, asked: Parameters) -> tuple[Slices, ...]:
        """Return the selections of this pattern on `spec`.

        Raises
        ------
        BadUseError
            A parameter the pattern does not have, or one the dataset is too small for.
        """
        for name in msgspec.structs.asdict(asked):
            value = getattr(asked, name)
            if value is None:
                continue
            if name not in self.accepts:
                raise BadUseError(f"pattern {self.name!r} has no parameter {name!r}")
            if value < (0 if name == "gap" else 1):
                raise BadUseError(f"{name} must be {'0 or more' if name == 'gap' else 'at least 1'}, not {value}")
        return self.select(spec, asked)


def _whole_array(spec: DatasetSpec, _: Parameters) -> tuple[Slices, ...]:
    return (tuple((0, size, 1) for size in spec.shape),)


def _chunks_of_one_shard(spec: DatasetSpec, asked: Parameters) -> tuple[Slices, ...]:
    chunks, gap = _or(asked.chunks, DEFAULT_CHUNKS), _or(asked.gap, 0)
    one = tuple((0, size, 1) for size in spec.chunk_shape[1:])
    return ((_every(spec, chunks, gap), *one),)


def _chunks_of_many_shards(spec: DatasetSpec, asked: Parameters) -> tuple[Slices, ...]:
    chunks, gap, shards = _or(asked.chunks, DEFAULT_CHUNKS), _or(asked.gap, 1), _or(asked.shards, 16)
    block = _block(shards, spec.shard_grid[1:])
    if block is None:
        raise BadUseError(
            f"{shards} shards do not form a block of dataset {spec.key!r}, "
            f"which has {spec.shard_grid[1:]} beside each other"
        )
    space = tuple((0, count * size, 1) for count, size in zip(block, spec.shard_shape[1:], strict=True))
    return ((_every(spec, chunks, gap), *space),)


def _every(spec: DatasetSpec, chunks: int, gap: int) -> tuple[int, int, int]:
    """Select `chunks` chunks of the first shard along time with exactly `gap` stored chunks between them.

    Only a chunk length of 1 lets one strided selection skip chunks; then the gap in chunks along time is the gap
    as stored, since sub-chunks are in C order and a shard holds one spatial chunk.
    """
    per_shard = spec.shard_shape[0] // spec.chunk_shape[0]
    if spec.chunk_shape[0] != 1 or spec.shard_shape[1:] != spec.chunk_shape[1:]:
        raise BadUseError(
            f"dataset {spec.key!r} does not suit this pattern: "
            "it needs chunks of length 1 in time and one spatial chunk per shard"
        )
    last = (chunks - 1) * (gap + 1)
    if last >= per_shard:
        raise BadUseError(
            f"{chunks} chunks with a gap of {gap} do not fit into a shard of {per_shard} chunks of {spec.key!r}"
        )
    return (0, last + 1, gap + 1)


def _block(shards: int, grid: Sequence[int]) -> tuple[int, ...] | None:
    """Factor `shards` into a block that fits `grid`, as square as possible (4 -> 2 x 2); None if it cannot."""
    if not grid:
        return () if shards == 1 else None
    fits: list[tuple[int, ...]] = []
    for first in range(1, min(shards, grid[0]) + 1):
        rest = _block(shards // first, grid[1:]) if shards % first == 0 else None
        if rest is not None:
            fits.append((first, *rest))
    return min(fits, key=max, default=None)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


PATTERNS: dict[str, Pattern] = {
    pattern.name: pattern
    for pattern in (
        Pattern(
            name="whole_array",
            question="How fast does the whole array come into memory?",
            accepts=frozenset(),
            select=_whole_array,
        ),
        Pattern(
            name="chunks_of_one_shard",
            question="What do a few chunks of one shard cost, and what do the gaps between them cost?",
            accepts=frozenset({"gap", "chunks"}),
            select=_chunks_of_one_shard,
        ),
        Pattern(
            name="chunks_of_many_shards",
            question="What do a few chunks of each of many shards cost?",
            accepts=frozenset({"shards", "gap", "chunks"}),
            select=_chunks_of_many_shards,
        ),
    )
}


def pattern(name: str) -> Pattern:
    """Return the pattern called `name`; a BadUseError lists the choices."""
    if name not in PATTERNS:
        raise BadUseError(f"unknown pattern {name!r}: choose from {', '.join(PATTERNS)}")
    return PATTERNS[name]


def selection_shape(slices: Slices) -> tuple[int, ...]:
    """Return the shape of the array that a selection yields."""
    return tuple(len(range(*axis)) for axis in slices)


def selection_size(slices: Slices) -> int:
    """Return the number of elements of a selection."""
    return math.prod(selection_shape(slices))
