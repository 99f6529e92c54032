"""The data sets that are written by name: each preset has the same four, scaled to its purpose."""

from dataclasses import dataclass, replace

from harness.errors import BadUseError
from harness.manifest import DatasetSpec


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
    morton_shards: tuple[int, ...]
    seed: int


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
_CLOUD_SHAPE = (8192, 4096, 4096)

_GEOMETRIES = {
    # For tests: fast, with enough shards, chunks and gaps for every pattern.
    "tiny": {"small": _TINY_SMALL, "large": _TINY_LARGE},
    # 256 MiB each: gaps of `small` stay under zarr-python's merge limit of 1 MiB, those of `large` exceed it.
    "demo": {"small": _SMALL, "large": _LARGE},
    # 256 GiB each, in the same chunks and shards: more than any machine caches.
    "cloud": {"small": replace(_SMALL, shape=_CLOUD_SHAPE), "large": replace(_LARGE, shape=_CLOUD_SHAPE)},
}

NAMES = tuple(_GEOMETRIES)
"""The presets that can be written by name."""

_WITHOUT_MORTON = ("cloud",)
"""Presets whose Morton variants are written only when asked for: half a TiB is enough to start with."""


def dataset_names(preset: str) -> list[str]:
    """Return the names of a preset's datasets.

    Raises
    ------
    BadUseError
        Unknown preset.
    """
    if preset not in _GEOMETRIES:
        raise BadUseError(f"unknown preset {preset!r}: choose from {', '.join(NAMES)}")
    return [name + suffix for suffix in ("", "-morton") for name in _GEOMETRIES[preset]]


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


def _spec(preset: str, name: str) -> DatasetSpec:
    base = name.removesuffix("-morton")
    geometry = _GEOMETRIES[preset][base]
    morton = name != base
    return DatasetSpec(
        preset=preset,
        name=name,
        shape=geometry.shape,
        chunk_shape=geometry.chunks,
        shard_shape=geometry.morton_shards if morton else geometry.shards,
        dtype="uint16",
        codec="zstd",
        subchunk_order="morton" if morton else "c",
        seed=geometry.seed,
    )
