"""The array a workload reads: what its manifest says of it, or its own ``zarr.json`` where it has none."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import msgspec
import obstore
from obstore.exceptions import BaseError

from harness.datasets import manifest
from harness.datasets.array import ArrayInfo, check_shapes
from harness.datasets.manifest import DTYPES, DatasetSpec, Manifest
from harness.errors import BadUseError
from harness.targets.client import lacks_bucket, open_store, reaching
from harness.targets.obstore import Store
from harness.targets.target import EMBEDDED, Target

_METADATA = "zarr.json"
_DEPTH = 3
"""Folders below a target in which arrays are looked for: ``preset/name``, and a group around them."""
_INDEX_CODECS = ("bytes", "crc32c")
_CHECKSUMS = ("crc32c",)


class _Named(msgspec.Struct, frozen=True):
    """A part of the metadata that has a name and settings."""

    name: str
    configuration: dict[str, Any] = {}


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of an array's ``zarr.json``."""

    zarr_format: int
    node_type: str
    shape: tuple[int, ...] = ()
    data_type: Any = None
    chunk_grid: _Named = _Named("none")
    chunk_key_encoding: _Named = _Named("none")
    codecs: tuple[_Named | str, ...] = ()
    storage_transformers: tuple[Any, ...] = ()


class _Sharding(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the sharding codec."""

    chunk_shape: tuple[int, ...]
    codecs: tuple[_Named | str, ...]
    index_codecs: tuple[_Named | str, ...]
    index_location: str = "end"


class _Shape(msgspec.Struct, frozen=True):
    """The settings of a regular chunk grid."""

    chunk_shape: tuple[int, ...]


def of_spec(spec: DatasetSpec) -> ArrayInfo:
    """Return the array of a dataset that has a manifest."""
    return ArrayInfo(
        key=spec.key,
        shape=spec.shape,
        chunk_shape=spec.chunk_shape,
        shard_shape=spec.shard_shape,
        dtype=spec.dtype,
        codec=spec.codec,
        subchunk_order=spec.subchunk_order,
    )


def at_url(target: Target) -> tuple[Target, ArrayInfo] | None:
    """Return the array that stands at a target's URL itself, with the target whose key it is; None if none does.

    Raises
    ------
    BadUseError
        Something else stands there, or an array that is not sharded in the way that can be measured.
    StoreError
        The target cannot be reached or refuses.
    """
    with reaching(target):
        store = open_store(target, retry=False)
        document = manifest.read(store, _METADATA, bucket_may_miss=target.name == EMBEDDED)
        if document is None and manifest.read(store, ".zarray", bucket_may_miss=target.name == EMBEDDED):
            raise BadUseError(f"{target.url} is an array of Zarr v2, which has no shards: only v3 can be measured")
    if document is None:
        return None
    above, _, key = target.url.rstrip("/").rpartition("/")
    if not target.prefix:
        raise BadUseError(f"{target.url} is an array without a name: put it below a prefix")
    array = of_metadata(_decoded(target, key) if target.is_http else key, document)
    return msgspec.structs.replace(target, url=above), array


def _decoded(target: Target, part: str) -> str:
    """Return the name that a part of an address stands for; a BadUseError says that it cannot be a key's last part."""
    try:
        name = unquote(part, errors="strict")
    except UnicodeDecodeError:
        name = ""
    if not name.isprintable() or name in ("", ".", "..") or "/" in name:
        raise BadUseError(f"{target.url} ends with {part!r}, which stands for no name that an array can have")
    return name


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """An array that stands at a target, or something that is one in part."""

    key: str
    """Below the target's URL, e.g. ``demo/small``."""
    array: ArrayInfo | None
    """None where it cannot be measured."""
    has_manifest: bool
    trouble: str | None = None
    """Why it cannot be measured."""


def find_all(target: Target) -> list[Found]:
    """Return the arrays at a target, in order of their keys: those below it and those in its folders and groups.

    Raises
    ------
    BadUseError
        A target that cannot be listed.
    StoreError
        The target cannot be reached or refuses.
    """
    if target.is_http:
        raise BadUseError(f"target {target.name!r} is read by plain HTTP, which cannot list")
    may_miss = target.name == EMBEDDED
    with reaching(target):
        store = open_store(target, retry=False)
        try:
            found = list(_below(store, "", _DEPTH))
        except BaseError as error:
            if not (may_miss and lacks_bucket(error)):
                raise
            return []
    return sorted(found, key=lambda one: one.key)


def _below(store: Store, folder: str, depth: int) -> Iterator[Found]:
    """Yield the arrays in a folder, and in its folders where it may go deeper; nothing is listed inside an array."""
    listed = obstore.list_with_delimiter(store, f"{folder}/" if folder else None)
    names = {meta["path"] for meta in listed["objects"]}
    folders = [prefix.rstrip("/") for prefix in listed["common_prefixes"]]
    manifests = {name.removesuffix(Manifest.SUFFIX) for name in names if name.endswith(Manifest.SUFFIX)}
    for key in sorted({*folders, *manifests}):
        document = manifest.read(store, f"{key}/{_METADATA}")
        if document is not None and not _is_group(document):
            yield _found(key, document, key in manifests)
        elif key in manifests:
            yield Found(key=key, array=None, has_manifest=True, trouble="unfinished: run its `zcb data create` again")
        elif depth > 1:
            yield from _below(store, key, depth - 1)


def _found(key: str, document: bytes, has_manifest: bool) -> Found:
    try:
        array = of_metadata(key, document)
    except BadUseError as error:
        return Found(key=key, array=None, has_manifest=has_manifest, trouble=str(error))
    return Found(key=key, array=array, has_manifest=has_manifest)


def _is_group(document: bytes) -> bool:
    try:
        return msgspec.json.decode(document, type=_Metadata).node_type == "group"
    except msgspec.DecodeError:
        return False


def of_metadata(key: str, document: bytes) -> ArrayInfo:
    """Return the array called `key` that a ``zarr.json`` describes.

    Raises
    ------
    BadUseError
        Not the metadata of an array, or of one that cannot be measured; the message says what stands against it.
    """
    try:
        found = msgspec.json.decode(document, type=_Metadata)
        if found.node_type != "array" or found.zarr_format != 3:
            what = f"a {found.node_type} of Zarr v{found.zarr_format}"
            raise BadUseError(f"{key!r} is {what}, not an array of v3: name one, or a data set by --dataset")
        return _array(key, found)
    except msgspec.DecodeError as error:
        raise BadUseError(f"{key!r}: its {_METADATA} is not an array's metadata: {error}") from error


def _array(key: str, found: _Metadata) -> ArrayInfo:
    codecs = list(map(_named, found.codecs))
    if [codec.name for codec in codecs] != ["sharding_indexed"]:
        said = ", ".join(codec.name for codec in codecs) or "none"
        raise BadUseError(f"{key!r} is not sharded all the way down: its codecs are {said}")
    sharding = msgspec.convert(codecs[0].configuration, _Sharding)
    if found.chunk_grid.name != "regular":
        raise BadUseError(f"{key!r} has a chunk grid of kind {found.chunk_grid.name!r}, not a regular one")
    array = ArrayInfo(
        key=key,
        shape=found.shape,
        chunk_shape=sharding.chunk_shape,
        shard_shape=msgspec.convert(found.chunk_grid.configuration, _Shape).chunk_shape,
        dtype=found.data_type if found.data_type in DTYPES else _refuse_type(key, found.data_type),
        codec="+".join(_compressors(sharding)) or "none",
        subchunk_order="unknown",
    )
    try:
        check_shapes(array.shape, array.shard_shape, array.chunk_shape)
    except ValueError as error:
        raise BadUseError(f"{key!r}: {error}") from None
    _check_storage(key, found, sharding)
    return array


def _named(codec: _Named | str) -> _Named:
    """Return a codec in its long form: one without settings may be written as its name."""
    return _Named(codec) if isinstance(codec, str) else codec


def _compressors(sharding: _Sharding) -> list[str]:
    return [c.name for c in map(_named, sharding.codecs) if c.name not in ("bytes", *_CHECKSUMS)]


def _refuse_type(key: str, data_type: Any) -> str:
    raise BadUseError(f"{key!r} has elements of type {str(data_type)[:40]}, not one of {', '.join(DTYPES)}")


def _check_storage(key: str, found: _Metadata, sharding: _Sharding) -> None:
    """Refuse shards that the network limit could not fetch: it finds them and their indexes by itself."""
    if found.storage_transformers:
        raise BadUseError(f"{key!r} has storage transformers, which no reader here knows")
    encoding = found.chunk_key_encoding
    if encoding.name != "default" or encoding.configuration.get("separator", "/") != "/":
        raise BadUseError(f"{key!r} names its shards in another way than c/0/0: chunk key encoding {encoding.name!r}")
    index = list(map(_named, sharding.index_codecs))
    little = all(c.configuration.get("endian", "little") == "little" for c in index)
    if sharding.index_location != "end" or tuple(c.name for c in index) != _INDEX_CODECS or not little:
        raise BadUseError(f"{key!r} has its shard indexes elsewhere than at the end, or encoded otherwise than usual")
