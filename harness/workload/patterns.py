"""Read patterns: which chunks of a dataset are wanted, as basic selections in the array's index space."""

import functools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from harness.errors import BadUseError, unknown
from harness.workload.placement import Shapes, Slices, StoredShard, with_gap

DEFAULT_CHUNKS = 4
"""Chunks wanted of each shard by the few-chunk patterns."""
DEFAULT_CROPS = 64
DEFAULT_CROPS_AT_ONCE = 16
DEFAULT_HEADLINE_READS = 11

_REGION = ((152, 293, 1), (200, 481, 1))
"""Latitude 20 to 55 and longitude -130 to -60 of a 0.25 degree grid, both ends included, in the four shards of 288 x
288 that hold them: rows from 18 S, columns from 180 W."""


class Parameters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a pattern can be asked for; None is the pattern's own default."""

    gap: int | None = None
    """Stored chunks between two wanted ones of a shard."""
    shards: int | None = None
    """Shards touched."""
    chunks: int | None = None
    """Chunks wanted of each shard."""
    crop: tuple[int, ...] | None = None
    """Elements per axis of a crop."""
    crops: int | None = None
    """How many crops are read."""
    seed: int | None = None
    """Of the crops' positions."""
    reads: int | None = None
    """How often the same read is made."""
    concurrent_reads: int | None = None
    """Reads under way at once."""
    gib: float | None = None
    """Decoded GiB of the array that a stream reads."""
    window_mib: int | None = None
    """Decoded MiB of a stream's window."""
    seconds: float | None = None
    """What a stream lasts at least."""

    def given(self) -> dict[str, float | tuple[int, ...]]:
        """Return what was asked for, by name."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}

    @staticmethod
    def text(value: float | Sequence[int]) -> str:
        """Return a parameter's value as it is shown, e.g. ``4x64x64``."""
        if isinstance(value, Sequence):
            return "x".join(map(str, value))
        return f"{value:g}" if isinstance(value, float) else str(value)

    def label(self, pattern: str, dataset: str) -> str:
        """Return the short name of a pattern on a data set, e.g. ``chunks_of_one_shard small gap=1``."""
        given = (f"{name}={self.text(value)}" for name, value in self.given().items())
        return " ".join([pattern, dataset.rpartition("/")[2], *given])


_FROM_ZERO = ("gap", "seed", "seconds")
_FRACTIONS = ("gib",)
"""Parameters that may be below 1."""
_MOST = {
    "crops": 100_000,
    "reads": 100_000,
    "concurrent_reads": 10_000,
    "seed": 2**64 - 1,
    "gib": 2.0**30,
    "window_mib": 2**40,
    "seconds": 86_400,
}


class Layout(Shapes, Protocol):
    """What a pattern needs to know of an array."""

    @property
    def key(self) -> str:
        """Key of the array below its target."""

    @property
    def shard_grid(self) -> tuple[int, ...]:
        """Shards per axis of the array."""


FirstShard = Callable[[], StoredShard]
"""Returns the first shard that is stored, which may have to be asked for."""


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A named rule that turns a dataset and parameters into selections."""

    name: str
    question: str
    """What a user learns from it, in one line."""
    accepts: frozenset[str]
    """The fields of `Parameters` it understands."""
    select: Callable[[Layout, Parameters, FirstShard], tuple[Slices, ...]]
    dataset: str = "small"
    """The dataset it reads unless told otherwise."""
    concurrent_reads: int = 1
    """Reads under way at once unless told otherwise."""
    most_concurrent_reads: int | None = None
    """None is as many as any workload may have."""
    of_shards: bool = False
    """Whether it is about chunks inside shards, and so needs some."""
    in_windows: bool = False
    """Whether its read is executed window by window, however large the array is."""

    def selections(self, spec: Layout, asked: Parameters, first_shard: FirstShard | None = None) -> tuple[Slices, ...]:
        """Return the selections of this pattern on `spec`, by default one whose chunks are all stored in C order.

        Raises
        ------
        BadUseError
            A parameter the pattern does not have, or one the dataset is too small for.
        """
        self.check(asked)
        return self.select(spec, asked, first_shard or functools.partial(_in_c_order, spec))

    def check(self, asked: Parameters) -> None:
        """Refuse a parameter that the pattern does not have, or a value that suits no dataset, as a BadUseError."""
        for name, value in asked.given().items():
            if name not in self.accepts:
                raise BadUseError(f"pattern {self.name!r} has no parameter {name!r}")
            if isinstance(value, tuple):
                continue
            if name in _FRACTIONS and not value > 0:
                raise BadUseError(f"{name} must be above 0, not {value:g}")
            least = 0 if name in (*_FROM_ZERO, *_FRACTIONS) else 1
            if not value >= least:
                raise BadUseError(f"{name} must be {'0 or more' if least == 0 else 'at least 1'}, not {value}")
            own = self.most_concurrent_reads if name == "concurrent_reads" else None
            most = _MOST.get(name) if own is None else own
            if most is not None and value > most:
                raise BadUseError(f"{name} must be at most {Parameters.text(most)}, not {Parameters.text(value)}")


def _whole_array(spec: Layout, *_: object) -> tuple[Slices, ...]:
    return (tuple((0, size, 1) for size in spec.shape),)


def _chunks_of_one_shard(spec: Layout, asked: Parameters, first_shard: FirstShard) -> tuple[Slices, ...]:
    chunks, gap = _or(asked.chunks, DEFAULT_CHUNKS), _or(asked.gap, 0)
    shard = first_shard()
    selected = with_gap(spec, shard, chunks, gap)
    if selected is None:
        stored = sum(rank >= 0 for rank in shard.ranks)
        raise BadUseError(
            f"{chunks} chunks with a gap of {gap} do not fit into a shard of {stored} stored chunks of {spec.key!r}"
        )
    return (selected,)


def _in_c_order(spec: Layout) -> StoredShard:
    """Return the shard in the array's corner with all of its chunks stored in C order."""
    chunks = math.prod(size // part for size, part in zip(spec.shard_shape, spec.chunk_shape, strict=True))
    return StoredShard((0,) * len(spec.shape), range(chunks))


def _chunks_of_many_shards(spec: Layout, asked: Parameters, _: FirstShard) -> tuple[Slices, ...]:
    chunks, gap, shards = _or(asked.chunks, DEFAULT_CHUNKS), _or(asked.gap, 1), _or(asked.shards, 16)
    block = _block(shards, spec.shard_grid[1:])
    if block is None:
        raise BadUseError(
            f"{shards} shards do not form a block of dataset {spec.key!r}, "
            f"which has {spec.shard_grid[1:]} beside each other"
        )
    space = tuple((0, count * size, 1) for count, size in zip(block, spec.shard_shape[1:], strict=True))
    return ((_every(spec, chunks, gap), *space),)


def _random_crops(spec: Layout, asked: Parameters, _: FirstShard) -> tuple[Slices, ...]:
    """Place crops uniformly, chunk borders or not: every position inside the array is as likely."""
    crop = asked.crop or spec.chunk_shape
    if len(crop) != len(spec.shape):
        raise BadUseError(f"a crop of {Parameters.text(crop)} has {len(crop)} axes, {spec.key!r} has {len(spec.shape)}")
    if min(crop) < 1:
        raise BadUseError(f"a crop of {Parameters.text(crop)} has a length below 1")
    if any(length > size for length, size in zip(crop, spec.shape, strict=True)):
        raise BadUseError(
            f"a crop of {Parameters.text(crop)} is larger than {spec.key!r}, which is {Parameters.text(spec.shape)}"
        )
    # Of Python's generators only random() is promised to give the same numbers in every version.
    draw = random.Random(_or(asked.seed, 0)).random  # noqa: S311 - positions, not secrets
    places = [
        [int(draw() * (size - length + 1)) for size, length in zip(spec.shape, crop, strict=True)]
        for _ in range(_or(asked.crops, DEFAULT_CROPS))
    ]
    return tuple(
        tuple((start, start + length, 1) for start, length in zip(place, crop, strict=True)) for place in places
    )


def _headline_3004(spec: Layout, asked: Parameters, _: FirstShard) -> tuple[Slices, ...]:
    """Repeat one regional read: the published box, moved to the corner of the array that is written."""
    if len(spec.shape) != len(_REGION) + 3 or any(
        stop > size for (_, stop, _), size in zip(_REGION, spec.shape[3:], strict=False)
    ):
        raise BadUseError(f"dataset {spec.key!r} does not suit this pattern: it reads headline/gem3")
    date, *others = spec.shape[:3]
    region = ((date - 1, date, 1), *((0, size, 1) for size in others), *_REGION)
    return (region,) * _or(asked.reads, DEFAULT_HEADLINE_READS)


def _every(spec: Layout, chunks: int, gap: int) -> tuple[int, int, int]:
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
    if last >= min(per_shard, spec.shape[0]):
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
            of_shards=True,
        ),
        Pattern(
            name="chunks_of_many_shards",
            question="What do a few chunks of each of many shards cost?",
            accepts=frozenset({"shards", "gap", "chunks"}),
            select=_chunks_of_many_shards,
            of_shards=True,
        ),
        Pattern(
            name="random_crops",
            question="How many random crops a second does a training loop get, at any position?",
            accepts=frozenset({"crop", "crops", "seed", "concurrent_reads"}),
            select=_random_crops,
            concurrent_reads=DEFAULT_CROPS_AT_ONCE,
        ),
        Pattern(
            name="stream",
            question="How fast does an array of any size pass through, window by window, in bounded memory?",
            accepts=frozenset({"gib", "window_mib", "seconds", "concurrent_reads"}),
            select=_whole_array,
            dataset="large",
            most_concurrent_reads=2,
            in_windows=True,
        ),
        Pattern(
            name="headline_3004",
            question="Does the published speed-up of zarr-python's #3004 show, on chunks and shards like those?",
            accepts=frozenset({"reads"}),
            select=_headline_3004,
            dataset="headline/gem3",
        ),
    )
}


def pattern(name: str) -> Pattern:
    """Return the pattern called `name`; a BadUseError lists the choices."""
    if name not in PATTERNS:
        raise unknown("pattern", name, PATTERNS)
    return PATTERNS[name]


def selection_shape(slices: Slices) -> tuple[int, ...]:
    """Return the shape of the array that a selection yields."""
    return tuple(len(range(*axis)) for axis in slices)


def selection_size(slices: Slices) -> int:
    """Return the number of elements of a selection."""
    return math.prod(selection_shape(slices))
