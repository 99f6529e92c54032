"""The array a workload reads: its geometry, and where each part of it is stored."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from harness.datasets.shards import ShardIndex, index_nbytes, parse_index

MAX_DIMENSIONS = 16
MAX_NBYTES = 1 << 60
MAX_CHUNKS_PER_SHARD = 1 << 22
MAX_CHUNKS = 20_000_000
"""Of an array with a manifest, and of what a workload touches."""
LONGEST_SHOWN = 80

UNKNOWN_ORDER = "unknown"
"""The order of chunks inside a shard where only the shard's index says it."""

_KINDS = "biufcmMSUV"
"""Of numpy's types, those whose elements have a fixed size and no parts."""


METADATA_NAMES = {3: "zarr.json", 2: ".zarray"}
"""The document that describes an array, by its format, in the order in which they are looked for."""


class ArrayInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The array a workload reads, of either format, sharded or not.

    The object of an array without shards holds one chunk: `shard_shape` is then `chunk_shape`.
    """

    key: str
    """Key under the target's URL, e.g. ``demo/small``."""
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    shard_shape: tuple[int, ...]
    dtype: str
    """numpy's name of the elements' type, whatever the byte order they are stored in."""
    codec: str
    subchunk_order: str
    """Order of the chunks inside a shard: ``c``, ``morton``, or ``unknown`` for an array without a manifest."""
    zarr_format: Literal[2, 3] = 3
    key_encoding: Literal["default", "v2"] = "default"
    """How an object's key is made of its coordinates: ``c/0/0`` or ``0/0``, with `separator` between them."""
    separator: Literal["/", "."] = "/"
    index_location: Literal["end", "start", "none"] = "end"
    """Where in a shard its index stands; ``none`` for an array without shards."""
    index_checksum: bool = True
    """Whether a CRC32C follows the index."""
    index_endian: Literal["little", "big"] = "little"

    nan_payload: bool = False
    """Whether the fill value is given bit by bit, as a NaN with a payload is: not every library keeps its bits."""

    @property
    def is_sharded(self) -> bool:
        """Whether a stored object holds several chunks and their index."""
        return self.index_location != "none"

    @property
    def nbytes(self) -> int:
        """Decoded bytes of the array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def chunks_per_shard(self) -> tuple[int, ...]:
        """Chunks along each axis of a shard."""
        return grid(self.shard_shape, self.chunk_shape)

    @property
    def shard_grid(self) -> tuple[int, ...]:
        """Shards along each axis of the array, the last of which may reach beyond it."""
        return grid(self.shape, self.shard_shape)

    @property
    def index_nbytes(self) -> int:
        """Stored bytes of a shard's index; 0 where there are no shards."""
        return index_nbytes(self.chunks_per_shard, checksum=self.index_checksum) if self.is_sharded else 0

    def place(self, chunk: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shard that holds a chunk of the array's grid, and the chunk's place inside it."""
        parts = [divmod(number, count) for number, count in zip(chunk, self.chunks_per_shard, strict=True)]
        return tuple(shard for shard, _ in parts), tuple(inner for _, inner in parts)

    def index_of(self, stored: bytes, object_nbytes: int | None) -> ShardIndex:
        """Decode a stored index of one of its shards, as `parse_index` does."""
        return parse_index(
            stored, self.chunks_per_shard, object_nbytes, checksum=self.index_checksum, endian=self.index_endian
        )

    @property
    def metadata_key(self) -> str:
        """Key of the document that describes it, below the target's URL, e.g. ``demo/small/zarr.json``."""
        return f"{self.key}/{METADATA_NAMES[self.zarr_format]}"

    def object_key(self, shard: Sequence[int]) -> str:
        """Return the key of a stored object below the array's, e.g. ``c/0/3/5`` or ``0.3.5``."""
        return self.separator.join([*(["c"] if self.key_encoding == "default" else []), *map(str, shard)])


def element_type(named: str | np.dtype[Any]) -> np.dtype[Any]:
    """Return numpy's type of that name; a ValueError says that its elements have no fixed size, or have parts."""
    dtype = np.dtype(named)
    if dtype.kind not in _KINDS or dtype.itemsize == 0 or dtype.names is not None or dtype.subdtype is not None:
        raise ValueError(f"{short(str(named))} is not the type of a number, a date or bytes of a fixed length")
    return dtype


def grid(whole: Sequence[int], part: Sequence[int]) -> tuple[int, ...]:
    """Return how many parts cover a whole along each axis, in elements per axis; the last may reach beyond it."""
    return tuple(-(-size // length) for size, length in zip(whole, part, strict=True))


def check_shapes(
    shape: Sequence[int], shards: Sequence[int], chunks: Sequence[int], *, whole_shards: bool = False
) -> None:
    """Refuse shapes, in elements per axis, that are no sharded array; a ValueError says what is wrong.

    Parameters
    ----------
    whole_shards
        Whether the array has to consist of whole shards; in general the last ones reach beyond it.
    """
    named = {"shape": shape, "shards": shards, "chunks": chunks}
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise ValueError(f"{len(shape)} dimensions are not between 1 and {MAX_DIMENSIONS}")
    for name, lengths in named.items():
        if len(lengths) != len(shape):
            raise ValueError(f"{name} {short(lengths)} and shape {short(shape)} differ in dimensions")
        if min(lengths) < 1:
            raise ValueError(f"{name} {short(lengths)} has a length below 1: it is empty")
    _check_divides("chunks", chunks, "shards", shards)
    if whole_shards:
        _check_divides("shards", shards, "shape", shape)
    per_shard = math.prod(grid(shards, chunks))
    if per_shard > MAX_CHUNKS_PER_SHARD:
        raise ValueError(f"{per_shard} chunks in a shard exceed the limit of {MAX_CHUNKS_PER_SHARD}")


def _check_divides(inner: str, part: Sequence[int], outer: str, whole: Sequence[int]) -> None:
    if any(b % a for a, b in zip(part, whole, strict=True)):
        nearest = [max(1, round(b / a)) * a for a, b in zip(part, whole, strict=True)]
        raise ValueError(
            f"{inner} {short(part)} do not divide {outer} {short(whole)}: "
            f"the nearest that they divide is {short(nearest)}"
        )


def short(value: object) -> str:
    """Return `value` as a person wants it in an error: quoted if text, cut if absurdly long."""
    text = ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."
