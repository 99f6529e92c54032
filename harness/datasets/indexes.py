"""Shard indexes: where each chunk stands inside a shard (the index of Zarr v3's ``sharding_indexed`` codec)."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from obstore.exceptions import NotSupportedError
from obstore.store import HTTPStore

from harness.datasets.shards import ShardIndex, index_nbytes, parse_index, shard_key
from harness.targets.client import open_store, reaching
from harness.targets.target import Target

if TYPE_CHECKING:
    from harness.datasets.array import ArrayInfo
    from harness.targets.obstore import Store


_AT_ONCE = 100


class FetchedIndex(NamedTuple):
    """A shard's stored index, and what it took."""

    body: bytes
    heads: int
    """HEAD requests that it took."""
    object_nbytes: int
    """Size of the shard."""


def read_indexes(
    target: Target, array: "ArrayInfo", shards: Sequence[tuple[int, ...]]
) -> dict[tuple[int, ...], ShardIndex]:
    """Fetch the indexes of `shards`, as `fetch_index` does, with the shards' sizes."""
    store = open_store(target, prefix=array.key)
    size = index_nbytes(array.chunks_per_shard)
    with reaching(target):
        stored = asyncio.run(_fetch_suffixes(store, [shard_key(s) for s in shards], size))
    return {
        shard: parse_index(one.body, array.chunks_per_shard, one.object_nbytes)
        for shard, one in zip(shards, stored, strict=True)
    }


async def fetch_index(store: "Store", key: str, nbytes: int) -> FetchedIndex:
    """Return the last `nbytes` of a shard.

    One suffix request where the store knows them. Azure does not: there the shard's size is asked for first.
    """
    try:
        response = await store.get_async(key, options={"range": {"suffix": nbytes}})
        return FetchedIndex(bytes(cast("bytes", await response.bytes_async())), 0, response.meta["size"])
    except NotSupportedError:
        if isinstance(store, HTTPStore):  # it ignores every range, not only those from the end
            raise
        size = (await store.head_async(key))["size"]
        body = await store.get_range_async(key, start=max(0, size - nbytes), end=size)
        return FetchedIndex(bytes(cast("bytes", body)), 1, size)


async def _fetch_suffixes(store: "Store", keys: Sequence[str], size: int) -> list[FetchedIndex]:
    permits = asyncio.Semaphore(_AT_ONCE)

    async def fetch(key: str) -> FetchedIndex:
        async with permits:
            return await fetch_index(store, key, size)

    return list(await asyncio.gather(*map(fetch, keys)))
