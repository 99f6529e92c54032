"""The array that stored metadata describe, of either format: ``zarr.json`` or ``.zarray``."""

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from harness.datasets.array import METADATA_NAMES, UNKNOWN_ORDER, ArrayInfo, check_shapes, element_type, short
from harness.datasets.manifest import DatasetSpec
from harness.errors import BadUseError

SHARDING = "sharding_indexed"
_BYTES, _CHECKSUM = "bytes", "crc32c"
_NO_COMPRESSORS = (_BYTES, _CHECKSUM, "transpose")


class _Named(msgspec.Struct, frozen=True):
    """A part of the metadata that has a name and settings."""

    name: str
    configuration: dict[str, Any] = {}


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a ``zarr.json``; other fields are for readers to understand or refuse."""

    zarr_format: int
    node_type: str
    shape: tuple[int, ...] = ()
    data_type: Any = None
    fill_value: Any = None
    chunk_grid: _Named | str = _Named("none")
    chunk_key_encoding: _Named | str = _Named("none")
    codecs: tuple[_Named | str, ...] = ()
    storage_transformers: tuple[Any, ...] = ()


class _Metadata2(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a ``.zarray``."""

    zarr_format: Literal[2]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str | list[Any]
    compressor: dict[str, Any] | None
    filters: tuple[dict[str, Any], ...] | None = None
    dimension_separator: Literal[".", "/"] = "."


class _Sharding(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the sharding codec."""

    chunk_shape: tuple[int, ...]
    codecs: tuple[_Named | str, ...]
    index_codecs: tuple[_Named | str, ...]
    index_location: Literal["start", "end"] = "end"


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


def of_metadata(key: str, document: bytes) -> ArrayInfo:
    """Return the array called `key` that a ``zarr.json`` describes.

    Raises
    ------
    BadUseError
        Not the metadata of an array, or of one that cannot be measured; the message says what stands against it.
    """
    return _described(key, METADATA_NAMES[3], document, _array3)


def of_metadata2(key: str, document: bytes) -> ArrayInfo:
    """Return the array called `key` that a ``.zarray`` describes; errors as of `of_metadata`."""
    return _described(key, METADATA_NAMES[2], document, _array2)


def decoded(document: bytes) -> Any:
    """Return stored JSON, in which NaN and infinities may stand bare, as Python writes them; ValueError for others."""
    try:
        return json.loads(document)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _described(key: str, name: str, document: bytes, array: Any) -> ArrayInfo:
    try:
        found: ArrayInfo = array(key, decoded(document))
        if not found.shape:
            raise BadUseError(f"{key!r} has no dimensions: it is one element, so there is nothing to read in parts")
        if 0 in found.shape:
            raise BadUseError(f"{key!r} is empty, its shape is {short(found.shape)}: there is nothing to read")
    except ValueError as error:  # msgspec's too
        raise BadUseError(f"{key!r}: its {name} is not an array's metadata: {error}") from error
    try:
        check_shapes(found.shape, found.shard_shape, found.chunk_shape)
    except ValueError as error:
        raise BadUseError(f"{key!r}: {error}") from None
    return found


def _array3(key: str, document: Any) -> ArrayInfo:
    found = msgspec.convert(document, _Metadata)
    if found.node_type != "array" or found.zarr_format != 3:
        raise BadUseError(f"{key!r} is a {found.node_type} of Zarr v{found.zarr_format}, not an array of v3")
    grid = _named(found.chunk_grid)
    if grid.name != "regular":
        raise BadUseError(f"{key!r} has a chunk grid of kind {grid.name!r}, not a regular one")
    if found.storage_transformers:
        raise BadUseError(f"{key!r} has storage transformers, which no reader here knows")
    shards = msgspec.convert(grid.configuration, _Shape).chunk_shape
    codecs = list(map(_named, found.codecs))
    sharding = None
    if [codec.name for codec in codecs] == [SHARDING]:
        sharding = msgspec.convert(codecs[0].configuration, _Sharding)
        codecs = list(map(_named, sharding.codecs))
    return ArrayInfo(
        key=key,
        shape=found.shape,
        chunk_shape=shards if sharding is None else sharding.chunk_shape,
        shard_shape=shards,
        dtype=_type3(key, found.data_type),
        codec="+".join(codec.name for codec in codecs if codec.name not in _NO_COMPRESSORS) or "none",
        subchunk_order=UNKNOWN_ORDER,
        nan_payload=_is_bit_by_bit(found.fill_value),
        **_keys(key, _named(found.chunk_key_encoding)),
        **_index(key, sharding),
    )


def _array2(key: str, document: Any) -> ArrayInfo:
    found = msgspec.convert(document, _Metadata2)
    compressors = [*(found.filters or ()), *([found.compressor] if found.compressor else ())]
    return ArrayInfo(
        key=key,
        shape=found.shape,
        chunk_shape=found.chunks,
        shard_shape=found.chunks,
        dtype=_type2(key, found.dtype),
        codec="+".join(str(one.get("id")) for one in compressors) or "none",
        subchunk_order=UNKNOWN_ORDER,
        zarr_format=2,
        key_encoding="v2",
        separator=found.dimension_separator,
        index_location="none",
    )


def _named(part: _Named | str) -> _Named:
    """Return a part in its long form: one without settings may be written as its name."""
    return _Named(part) if isinstance(part, str) else part


def _keys(key: str, encoding: _Named) -> Mapping[str, Any]:
    """Return how the keys of objects are made."""
    separator = encoding.configuration.get("separator", {"default": "/", "v2": "."}.get(encoding.name))
    if encoding.name not in ("default", "v2") or separator not in ("/", "."):
        said = f"{encoding.name!r}, separator {separator!r}"
        raise BadUseError(f"{key!r} names its objects neither like c/0/0 nor like 0.0: chunk key encoding {said}")
    # A default is left out of a workload where it is the literal itself, not where it is an equal string.
    return {"key_encoding": "v2" if encoding.name == "v2" else "default", "separator": separator}


def _index(key: str, sharding: _Sharding | None) -> Mapping[str, Any]:
    """Return where the shards' indexes are and how they are encoded."""
    if sharding is None:
        return {"index_location": "none"}
    codecs = list(map(_named, sharding.index_codecs))
    names = tuple(codec.name for codec in codecs)
    if names not in ((_BYTES,), (_BYTES, _CHECKSUM)):
        raise BadUseError(f"{key!r} has shard indexes encoded by {', '.join(names) or 'nothing'}, not as usual")
    return {
        "index_location": "start" if sharding.index_location == "start" else "end",
        "index_checksum": names[-1] == _CHECKSUM,
        "index_endian": "big" if codecs[0].configuration.get("endian") == "big" else "little",
    }


def _is_bit_by_bit(fill: Any) -> bool:
    """Whether a fill value, or a part of a complex one, is written as ``0x7fc00001``."""
    return any(isinstance(part, str) and part.startswith("0x") for part in (fill if isinstance(fill, list) else [fill]))


def _type3(key: str, data_type: Any) -> str:
    """Return numpy's name of a data type of v3, by zarr-python's own registry."""
    from zarr.dtype import parse_dtype

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a type has no specification yet, says every reader itself
            return _type_name(parse_dtype(data_type, zarr_format=3).to_native_dtype())
    except (ValueError, TypeError, SyntaxError, KeyError, OverflowError):
        raise _unknown_type(key, data_type) from None


def _type2(key: str, dtype: str | Sequence[Any]) -> str:
    try:
        return _type_name(np.dtype(dtype if isinstance(dtype, str) else "O"))
    except (ValueError, TypeError, SyntaxError, OverflowError):
        raise _unknown_type(key, dtype) from None


def _type_name(dtype: np.dtype[Any]) -> str:
    """Return a type's name without its byte order, e.g. ``float32`` or ``M8[ns]``; a ValueError refuses it."""
    return dtype.name if element_type(dtype).kind in "biufc" else dtype.str[1:]


def _unknown_type(key: str, data_type: Any) -> BadUseError:
    return BadUseError(f"{key!r} has elements of type {str(data_type)[:60]}: none of numpy's types of a fixed size")
