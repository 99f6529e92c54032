"""The data sets that are written by name: the same four in three sizes, and the one of the published claim."""

from dataclasses import dataclass, replace

import msgspec

from harness.datasets.manifest import DatasetSpec
from harness.errors import BadUseError, unknown


@dataclass(frozen=True, kw_only=True)
class _Geometry:
    """Shapes of a dataset and of its Morton variant.

    In C order a shard holds one spatial chunk, so that a time step of g + 1 leaves exactly g stored chunks
    between. Such a shard's Morton order IS its C order, so the Morton variant's shards are wider: the same
    array with the same values.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...]
    seed: int
    morton_shards: tuple[int, ...] | None = None
    """None where there is no Morton variant."""
    dtype: str = "uint16"
    codec: str = "zstd"
    order: str = "c"


_SMALL = _Geometry(
    shape=(128, 1024, 1024),
    chunks=(1, 128, 128),
    shards=(64, 128, 128),
    morton_shards=(64, 256, 256),
    seed=1,
)
_LARGE = _Geometry(
    shape=(64, 1024, 2048),
    chunks=(1, 512, 1024),
    shards=(64, 512, 1024),
    morton_shards=(64, 1024, 1024),
    seed=2,
)
_TINY_SMALL = _Geometry(
    shape=(64, 128, 128),
    chunks=(1, 16, 16),
    shards=(64, 16, 16),
    morton_shards=(64, 32, 32),
    seed=1,
)
_TINY_LARGE = _Geometry(
    shape=(64, 128, 256),
    chunks=(1, 64, 128),
    shards=(64, 64, 128),
    morton_shards=(64, 128, 128),
    seed=2,
)
_GEM3 = _Geometry(
    # One date, one block of lead times and the four shards of the published region, of (3443, 168, 50, 721, 1440).
    shape=(1, 7, 50, 576, 576),
    chunks=(1, 7, 50, 36, 36),
    shards=(1, 7, 50, 288, 288),
    seed=3,
    dtype="float32",
    # The published chunks are 1.81 MB, stored as about 1.5 MB: as they are, these come nearer to that than compressed.
    codec="none",
    order="morton",
)
_CLOUD_SHAPE = (8192, 4096, 4096)

_GEOMETRIES = {
    # For tests: fast, with enough shards, chunks and gaps for every pattern.
    "tiny": {"small": _TINY_SMALL, "large": _TINY_LARGE},
    # 256 MiB each: gaps of `small` stay under zarr-python's merge limit of 1 MiB, those of `large` exceed it.
    "demo": {"small": _SMALL, "large": _LARGE},
    # 256 GiB each, in the same chunks and shards: more than any machine caches.
    "cloud": {"small": replace(_SMALL, shape=_CLOUD_SHAPE), "large": replace(_LARGE, shape=_CLOUD_SHAPE)},
    # 64 GiB in chunks of 1 MiB and 64 MiB shards, 1024 of them: for streams, which last; `--gib` writes less or more.
    "big": {"large": replace(_LARGE, shape=(16384, 1024, 2048))},
    # 443 MiB: chunks and shards of the data that #3004's published speed-up was measured on.
    "headline": {"gem3": _GEM3},
}

NAMES = tuple(_GEOMETRIES)
"""The presets that can be written by name."""

SCALED = "big"
"""The preset that is written in any size."""

_WITHOUT_MORTON = ("cloud", SCALED)
"""Presets whose Morton variants are written only when asked for: they are as large again."""


def dataset_names(preset: str) -> list[str]:
    """Return the names of a preset's datasets.

    Raises
    ------
    BadUseError
        Unknown preset.
    """
    if preset not in _GEOMETRIES:
        raise unknown("preset", preset, NAMES)
    geometries = _GEOMETRIES[preset]
    return [*geometries, *(f"{name}-morton" for name, geometry in geometries.items() if geometry.morton_shards)]


def specs(preset: str, names: tuple[str, ...] = ()) -> list[DatasetSpec]:
    """Return the specs of a preset's datasets `names`, by default of those it is made of.

    Raises
    ------
    BadUseError
        Unknown preset or dataset.
    """
    known = dataset_names(preset)
    for name in names:
        if name not in known:
            raise BadUseError(f"preset {preset!r} has no dataset {name!r}: choose from {', '.join(known)}")
    default = [name for name in known if preset not in _WITHOUT_MORTON or not name.endswith("-morton")]
    return [_spec(preset, name) for name in dict.fromkeys(names or default)]


def scaled(spec: DatasetSpec, gib: float) -> DatasetSpec:
    """Return a dataset of about so many GiB decoded: more or fewer shards along the first axis, at least one row.

    Raises
    ------
    BadUseError
        Its preset has one size only.
    """
    if spec.preset != SCALED:
        raise BadUseError(f"--gib is for preset {SCALED}: {spec.preset} has one size")
    height = spec.shard_shape[0]
    row_nbytes = spec.nbytes * height // spec.shape[0]
    rows = max(1, round(gib * 2**30 / row_nbytes))
    return msgspec.structs.replace(spec, shape=(rows * height, *spec.shape[1:]))


def _spec(preset: str, name: str) -> DatasetSpec:
    base = name.removesuffix("-morton")
    geometry = _GEOMETRIES[preset][base]
    morton_shards = geometry.morton_shards if name != base else None
    return DatasetSpec(
        preset=preset,
        name=name,
        shape=geometry.shape,
        chunk_shape=geometry.chunks,
        shard_shape=morton_shards or geometry.shards,
        dtype=geometry.dtype,
        codec=geometry.codec,
        subchunk_order="morton" if morton_shards else geometry.order,
        seed=geometry.seed,
    )
