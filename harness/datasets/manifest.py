"""Manifests: what a dataset is and the CRC32C of every chunk, stored and decoded.

The manifest of the array ``demo/small/zarr.json`` is the object ``demo/small.manifest``. Its binary form is
described in ``docs/data.md``: magic, version, JSON header, two arrays of CRC32C, and a CRC32C over all of it.
"""

import math
import os
import re
import struct
from dataclasses import dataclass
from typing import ClassVar, Self

import google_crc32c
import msgspec
import numpy as np
import numpy.typing as npt
import obstore
from obstore.exceptions import BaseError, NotFoundError

from harness.datasets.array import MAX_CHUNKS, MAX_NBYTES, check_shapes, grid, short
from harness.errors import BadUseError, unknown
from harness.targets.client import fetched, lacks_bucket, open_store, reaching
from harness.targets.target import EMBEDDED, Target

PRESETS = ("demo", "cloud", "big", "tiny", "headline", "custom")
"""Where a dataset is looked for that is named without its preset, first match wins."""

DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
CODECS = ("zstd", "blosc-lz4", "none")
SUBCHUNK_ORDERS = ("c", "morton")

VERSION = 1
"""Version of the format, of the truth field and of the codecs' settings, which change together."""

MAX_CHUNK_NBYTES = 64 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MAGIC = b"ZCB-MANI"

Crcs = npt.NDArray[np.uint32]


class DatasetSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides a dataset's bytes.

    Raises
    ------
    BadUseError
        A value that cannot be written: shapes that do not divide, unknown names, sizes beyond the limits.
    """

    preset: str
    name: str
    shape: tuple[int, ...]
    """Elements per axis of the array."""
    chunk_shape: tuple[int, ...]
    """Elements per axis of one inner chunk."""
    shard_shape: tuple[int, ...]
    """Elements per axis of one shard, which is one stored object."""
    dtype: str
    """numpy's name, e.g. ``uint16``; stored little-endian."""
    codec: str
    """``zstd``, ``blosc-lz4`` or ``none``."""
    subchunk_order: str
    """Order of the inner chunks inside a shard: ``c`` or ``morton``."""
    seed: int
    """Seed of the truth field, 0 to 2**64 - 1."""

    def __post_init__(self) -> None:
        """Refuse what cannot be written."""
        _check_name("preset", self.preset)
        _check_name("dataset", self.name)
        _check_choice("dtype", self.dtype, DTYPES)
        _check_choice("codec", self.codec, CODECS)
        _check_choice("sub-chunk order", self.subchunk_order, SUBCHUNK_ORDERS)
        if not 0 <= self.seed < 1 << 64:
            raise BadUseError(f"seed {short(self.seed)} is not between 0 and 2**64 - 1")
        try:
            check_shapes(self.shape, self.shard_shape, self.chunk_shape, whole_shards=True)
        except ValueError as error:
            raise BadUseError(str(error)) from None
        self._check_sizes()

    def _check_sizes(self) -> None:
        if self.nbytes > MAX_NBYTES:
            raise BadUseError(f"an array of shape {short(self.shape)} exceeds 2**60 bytes")
        if self.chunk_nbytes > MAX_CHUNK_NBYTES:
            raise BadUseError(f"a chunk of {self.chunk_nbytes} bytes exceeds the limit of {MAX_CHUNK_NBYTES}")
        if math.prod(self.chunk_grid) > MAX_CHUNKS:
            raise BadUseError(f"{math.prod(self.chunk_grid)} chunks exceed the limit of {MAX_CHUNKS}")

    @property
    def key(self) -> str:
        """The array's key under the target, e.g. ``demo/small``."""
        return f"{self.preset}/{self.name}"

    @property
    def chunk_grid(self) -> tuple[int, ...]:
        """Chunks per axis of the array."""
        return grid(self.shape, self.chunk_shape)

    @property
    def shard_grid(self) -> tuple[int, ...]:
        """Shards per axis of the array."""
        return grid(self.shape, self.shard_shape)

    @property
    def chunks_per_shard(self) -> tuple[int, ...]:
        """Chunks per axis of a shard."""
        return grid(self.shard_shape, self.chunk_shape)

    @property
    def nbytes(self) -> int:
        """Decoded bytes of the array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def shard_nbytes(self) -> int:
        """Decoded bytes of one shard."""
        return math.prod(self.shard_shape) * np.dtype(self.dtype).itemsize

    @property
    def chunk_nbytes(self) -> int:
        """Decoded bytes of one chunk."""
        return math.prod(self.chunk_shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """A dataset's spec and the checksums of its chunks.

    Raises
    ------
    BadUseError
        Checksums of another shape than the spec's chunk grid.
    """

    spec: DatasetSpec
    stored_crc32c: Crcs
    """CRC32C of each chunk's encoded bytes; uint32 of shape ``spec.chunk_grid``."""
    decoded_crc32c: Crcs
    """CRC32C of each chunk's decoded bytes, little-endian in C order; uint32 of shape ``spec.chunk_grid``."""

    SUFFIX: ClassVar[str] = ".manifest"

    def __post_init__(self) -> None:
        """Refuse checksums that are not one per chunk."""
        grid = self.spec.chunk_grid
        for crcs in (self.stored_crc32c, self.decoded_crc32c):
            if crcs.shape != grid:
                raise BadUseError(f"checksums of shape {crcs.shape} for a grid of {grid} chunks")

    def encode(self) -> bytes:
        """Return the manifest's bytes: 8 for each chunk and a few hundred more."""
        crcs = (_little(self.stored_crc32c), _little(self.decoded_crc32c))
        return pack(_MAGIC, msgspec.json.encode(self.spec), *crcs)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the manifest that `data` holds.

        Raises
        ------
        BadUseError
            Not a manifest, of another version, or damaged in any byte.
        """
        header, body = unpack(_MAGIC, data, what="manifest")
        try:
            spec = msgspec.json.decode(header, type=DatasetSpec)
        except msgspec.DecodeError as error:
            raise BadUseError(f"manifest: {error}") from error
        count = math.prod(spec.chunk_grid)
        if len(body) != 8 * count:
            raise BadUseError(f"manifest holds {len(body)} bytes of checksums where {8 * count} belong")
        crcs = np.frombuffer(body, "<u4").astype(np.uint32).reshape(2, *spec.chunk_grid)
        return cls(spec=spec, stored_crc32c=crcs[0], decoded_crc32c=crcs[1])


def load(target: Target, dataset: str) -> Manifest:
    """Return the manifest of `dataset` on `target`.

    Parameters
    ----------
    target
        Where to look.
    dataset
        ``demo/small``, or ``small``: then in the preset ``$ZCB_PRESET``, else in the first of `PRESETS` that
        has it.

    Raises
    ------
    BadUseError
        No such dataset, an unfinished one, or a damaged manifest.
    StoreError
        The store cannot be reached or refuses.
    """
    with reaching(target):
        manifest = find(open_store(target, retry=False), dataset, bucket_may_miss=target.name == EMBEDDED)
    if manifest is None and target.is_http:
        raise BadUseError(f"target {target.name} holds neither an array (no zarr.json) nor a dataset {dataset!r}")
    if manifest is None:
        preset = dataset.split("/")[0] if "/" in dataset else os.environ.get("ZCB_PRESET") or PRESETS[0]
        raise BadUseError(
            f"target {target.name} holds no dataset {dataset!r}: `zcb data list --target {target.name}` lists those "
            f"that are there, and `zcb data create --target {target.name} --preset {preset}` writes a preset's"
        )
    return manifest


def find(store: obstore.store.ObjectStore, dataset: str, *, bucket_may_miss: bool = False) -> Manifest | None:
    """Return the manifest of `dataset` in `store`, or None; names as for `load`."""
    for key in _candidates(dataset):
        data = read(store, key + Manifest.SUFFIX, bucket_may_miss=bucket_may_miss)
        if data is None:
            continue
        if read(store, f"{key}/zarr.json") is None:
            raise BadUseError(f"dataset {key!r} is unfinished: run its `zcb data create` again")
        try:
            return Manifest.decode(data)
        except BadUseError as error:
            raise BadUseError(f"{key}: {error}") from error
    return None


def datasets(target: Target) -> list[str]:
    """Return the keys of the datasets on `target` that have a manifest, sorted, e.g. ``["demo/small"]``.

    Raises
    ------
    BadUseError
        A target that cannot be listed.
    StoreError
        The store cannot be reached or refuses.
    """
    if target.is_http:
        raise BadUseError(
            f"target {target.name!r} is read by plain HTTP, which cannot list: name data sets by --dataset"
        )
    with reaching(target):
        return find_all(open_store(target, retry=False), bucket_may_miss=target.name == EMBEDDED)


def find_all(store: obstore.store.ObjectStore, *, bucket_may_miss: bool = False) -> list[str]:
    """Return the keys of the datasets in `store` that have a manifest, sorted."""
    found: list[str] = []
    try:
        for preset in PRESETS:
            paths = [meta["path"] for meta in obstore.list_with_delimiter(store, f"{preset}/")["objects"]]
            found += [path.removesuffix(Manifest.SUFFIX) for path in paths if path.endswith(Manifest.SUFFIX)]
    except BaseError as error:
        if not lacks_bucket(error):
            raise
        if not bucket_may_miss:
            raise NotFoundError(str(error)) from error
    return sorted(found)


def read(store: obstore.store.ObjectStore, key: str, *, bucket_may_miss: bool = False) -> bytes | None:
    """Return the object at `key`, or None when there is none; a missing bucket is an error unless allowed."""
    try:
        return fetched(store, key)
    except (NotFoundError, FileNotFoundError) as error:
        if lacks_bucket(error) and not bucket_may_miss:
            raise NotFoundError(str(error)) from error
        return None


def pack(magic: bytes, header: bytes, *parts: bytes | memoryview) -> bytes:
    """Return `header` and `parts` framed by `magic` (8 bytes), version, length and a CRC32C over all."""
    data = b"".join([magic, struct.pack("<II", VERSION, len(header)), header, *parts])
    return data + struct.pack("<I", google_crc32c.value(data))


def unpack(magic: bytes, data: bytes, *, what: str) -> tuple[bytes, memoryview]:
    """Return header and body of what `pack` framed.

    Raises
    ------
    BadUseError
        Another magic or version, or damage in any byte; `what` names the thing in the message.
    """
    view = memoryview(data)
    if len(view) < 20 or view[:8] != magic:
        raise BadUseError(f"{what} is damaged: it does not begin as one")
    version, header_length = struct.unpack_from("<II", view, 8)
    if version != VERSION:
        raise BadUseError(f"{what} has version {version}, this program reads {VERSION}")
    if struct.unpack_from("<I", view, len(view) - 4)[0] != google_crc32c.value(data[:-4]):
        raise BadUseError(f"{what} is damaged: its CRC32C does not match its {len(view)} bytes")
    return bytes(view[16 : 16 + header_length]), view[16 + header_length : -4]


def _little(crcs: Crcs) -> memoryview:
    return np.ascontiguousarray(crcs, "<u4").reshape(-1).data


def _candidates(dataset: str) -> list[str]:
    parts = dataset.split("/")
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts):
        raise BadUseError(f"{short(dataset)} is not a dataset's name: it is PRESET/NAME or NAME")
    if len(parts) == 2:
        return [dataset]
    presets = [os.environ["ZCB_PRESET"]] if os.environ.get("ZCB_PRESET") else PRESETS
    return [f"{preset}/{dataset}" for preset in presets]


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadUseError(f"{what} name {short(name)} is not made of 1 to 64 letters, digits, - and _")


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise unknown(what, value, choices)
