"""Shard indexes: where each chunk stands inside a shard (the index of Zarr v3's ``sharding_indexed`` codec)."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import google_crc32c
import numpy as np
import numpy.typing as npt
from obstore.exceptions import NotSupportedError

from harness.errors import MeasurementError
from harness.objectstore import open_store, reaching
from harness.targets import Target

if TYPE_CHECKING:
    from harness.access import Store
    from harness.arrays import ArrayInfo

MISSING = np.uint64(2**64 - 1)
"""Offset and length of a chunk that is not stored: it holds the fill value."""

_ENTRY_BYTES = 16
CRC_NBYTES = 4
_AT_ONCE = 100


@dataclass(frozen=True)
class ShardIndex:
    """Byte ranges of a shard's chunks: two uint64 arrays of shape `chunks_per_shard`."""

    offsets: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.uint64]


def index_nbytes(chunks_per_shard: Sequence[int]) -> int:
    """Return the stored size of an index with its CRC32C, in bytes."""
    return _ENTRY_BYTES * math.prod(chunks_per_shard) + CRC_NBYTES


def parse_index(data: bytes, chunks_per_shard: Sequence[int]) -> ShardIndex:
    """Decode a stored index; a MeasurementError says that its length or checksum is wrong."""
    body, crc = data[:-CRC_NBYTES], int.from_bytes(data[-CRC_NBYTES:], "little")
    if len(data) != index_nbytes(chunks_per_shard) or google_crc32c.value(body) != crc:
        raise MeasurementError("a shard index has the wrong length or checksum")
    entries = np.frombuffer(body, "<u8").reshape(*chunks_per_shard, 2)
    return ShardIndex(entries[..., 0].astype(np.uint64), entries[..., 1].astype(np.uint64))


def shard_key(shard: Sequence[int]) -> str:
    """Return a shard's key below its array's, e.g. ``c/0/3/5``."""
    return "/".join(["c", *map(str, shard)])


def read_indexes(
    target: Target, array: "ArrayInfo", shards: Sequence[tuple[int, ...]]
) -> dict[tuple[int, ...], ShardIndex]:
    """Fetch the indexes of `shards`, as `fetch_index` does."""
    store = open_store(target, prefix=array.key)
    size = index_nbytes(array.chunks_per_shard)
    with reaching(target):
        stored = asyncio.run(_fetch_suffixes(store, [shard_key(s) for s in shards], size))
    return {s: parse_index(data, array.chunks_per_shard) for s, data in zip(shards, stored, strict=True)}


async def fetch_index(store: "Store", key: str, nbytes: int) -> tuple[bytes, int]:
    """Return the last `nbytes` of a shard and how many HEAD requests that took.

    One suffix request where the store knows them. Azure does not: there the shard's size is asked for first.
    """
    try:
        response = await store.get_async(key, options={"range": {"suffix": nbytes}})
        return bytes(cast("bytes", await response.bytes_async())), 0
    except NotSupportedError:
        size = (await store.head_async(key))["size"]
        body = await store.get_range_async(key, start=max(0, size - nbytes), end=size)
        return bytes(cast("bytes", body)), 1


async def _fetch_suffixes(store: "Store", keys: Sequence[str], size: int) -> list[bytes]:
    permits = asyncio.Semaphore(_AT_ONCE)

    async def fetch(key: str) -> bytes:
        async with permits:
            body, _ = await fetch_index(store, key, size)
            return body

    return list(await asyncio.gather(*map(fetch, keys)))
