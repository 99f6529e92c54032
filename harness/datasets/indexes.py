"""What is stored of an array: the shard indexes (of Zarr v3's ``sharding_indexed`` codec), or the sizes of objects."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from obstore.exceptions import NotFoundError, NotSupportedError
from obstore.store import HTTPStore

from harness.datasets.shards import ShardIndex
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
    target: Target, array: "ArrayInfo", shards: Sequence[tuple[int, ...]], *, may_miss: bool = False
) -> dict[tuple[int, ...], ShardIndex]:
    """Return where the chunks of `shards` are stored, with the shards' sizes.

    Of an array without shards the first byte of each object is fetched, whose answer tells its size.

    Parameters
    ----------
    may_miss
        Whether an object that is not stored holds nothing but the fill value; else it is a StoreError.
    """
    store = open_store(target, prefix=array.key)

    async def fetch_all() -> list[ShardIndex]:
        permits = asyncio.Semaphore(_AT_ONCE)

        async def fetch(shard: tuple[int, ...]) -> ShardIndex:
            async with permits:
                try:
                    return await _index(store, array, shard)
                except (NotFoundError, FileNotFoundError):
                    if may_miss:
                        return ShardIndex.of_nothing(array.chunks_per_shard)
                    raise

        return list(await asyncio.gather(*map(fetch, shards)))

    with reaching(target):
        return dict(zip(shards, asyncio.run(fetch_all()), strict=True))


async def _index(store: "Store", array: "ArrayInfo", shard: tuple[int, ...]) -> ShardIndex:
    key = array.object_key(shard)
    if not array.is_sharded:
        answer = await store.get_async(key, options={"range": (0, 1)})
        return ShardIndex.of_object(answer.meta["size"], len(shard))
    fetched = await fetch_index(store, key, array.index_nbytes, at_start=array.index_location == "start")
    return array.index_of(fetched.body, fetched.object_nbytes)


async def fetch_index(store: "Store", key: str, nbytes: int, *, at_start: bool = False) -> FetchedIndex:
    """Return the last `nbytes` of a shard, or the first.

    One request where the store knows suffix ranges. Azure does not: there the shard's size is asked for first.
    """
    try:
        response = await store.get_async(
            key, options={"range": (0, nbytes)} if at_start else {"range": {"suffix": nbytes}}
        )
        return FetchedIndex(bytes(cast("bytes", await response.bytes_async())), 0, response.meta["size"])
    except NotSupportedError:
        if isinstance(store, HTTPStore):  # it ignores every range, not only those from the end
            raise
        size = (await store.head_async(key))["size"]
        body = await store.get_range_async(key, start=max(0, size - nbytes), end=size)
        return FetchedIndex(bytes(cast("bytes", body)), 1, size)
