"""Shard indexes: where each chunk stands inside a shard (the index of Zarr v3's ``sharding_indexed`` codec)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import google_crc32c
import numpy as np
import numpy.typing as npt

from harness.errors import MeasurementError

MISSING = np.uint64(2**64 - 1)
"""Offset and length of a chunk that is not stored: it holds the fill value."""

_ENTRY_BYTES = 16

CRC_NBYTES = 4

_LARGEST_NBYTES = 1 << 60
"""More than any object has; twice as much is a uint64 still."""


@dataclass(frozen=True)
class ShardIndex:
    """Byte ranges of a shard's chunks: two uint64 arrays of shape `chunks_per_shard`."""

    offsets: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.uint64]
    object_nbytes: int | None = None
    """Size of the whole shard, where the store said it: it may hold more than its chunks."""

    @classmethod
    def of_object(cls, nbytes: int, axes: int) -> "ShardIndex":
        """Return what stands for the index of an object of `nbytes` that is one chunk, of so many axes."""
        one = (1,) * axes
        return cls(np.zeros(one, np.uint64), np.full(one, nbytes, np.uint64), nbytes)

    @classmethod
    def of_nothing(cls, chunks_per_shard: Sequence[int]) -> "ShardIndex":
        """Return what stands for the index of an object that is not stored: none of its chunks is."""
        missing = np.full(tuple(chunks_per_shard), MISSING)
        return cls(missing, missing, 0)


def index_nbytes(chunks_per_shard: Sequence[int], *, checksum: bool = True) -> int:
    """Return the stored size of an index, with its CRC32C where it has one, in bytes."""
    return _ENTRY_BYTES * math.prod(chunks_per_shard) + CRC_NBYTES * checksum


def parse_index(
    data: bytes,
    chunks_per_shard: Sequence[int],
    object_nbytes: int | None = None,
    *,
    checksum: bool = True,
    endian: Literal["little", "big"] = "little",
) -> ShardIndex:
    """Decode a stored index of a shard of `object_nbytes`, where the store said its size.

    A checksum shows damage, not nonsense: requests and memory are asked for by these numbers.

    Raises
    ------
    MeasurementError
        Its length or checksum is wrong, or a chunk has bytes beyond the shard.
    """
    body = data[:-CRC_NBYTES] if checksum else data
    crc = google_crc32c.value(body).to_bytes(CRC_NBYTES, "little") if checksum else b""
    if len(data) != index_nbytes(chunks_per_shard, checksum=checksum) or data[len(body) :] != crc:
        raise MeasurementError("a shard index has the wrong length or checksum")
    entries = np.frombuffer(body, "<u8" if endian == "little" else ">u8").astype(np.uint64)
    entries = entries.reshape(*chunks_per_shard, 2)
    index = ShardIndex(entries[..., 0], entries[..., 1], object_nbytes)
    most = np.uint64(_LARGEST_NBYTES if object_nbytes is None else object_nbytes)
    stored = (index.offsets != MISSING) | (index.lengths != MISSING)
    beyond = (index.offsets > most) | (index.lengths > most) | (index.offsets + index.lengths > most)
    if np.any(stored & beyond):
        raise MeasurementError("a shard index names bytes beyond its shard")
    return index


def shard_key(shard: Sequence[int]) -> str:
    """Return a shard's key below its array's, e.g. ``c/0/3/5``."""
    return "/".join(["c", *map(str, shard)])
