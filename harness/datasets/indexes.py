"""Shard indexes: where each chunk stands inside a shard (the index of Zarr v3's ``sharding_indexed`` codec)."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from obstore.exceptions import NotSupportedError
from obstore.store import HTTPStore

from harness.datasets.shards import ShardIndex, index_nbytes, parse_index, shard_key
from harness.targets.client import open_store, reaching
from harness.targets.target import Target

if TYPE_CHECKING:
    from harness.datasets.array import ArrayInfo
    from harness.targets.obstore import Store


_AT_ONCE = 100


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
        if isinstance(store, HTTPStore):  # it ignores every range, not only those from the end
            raise
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
