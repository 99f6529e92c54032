"""The streaming writer: encodes in threads, uploads many shards at once, bounded in memory, resumable.

Processes that encode and upload (`setup_data.workers`) and a cluster (`setup_data.cluster`) take the threads' place.

The order makes every state safe: shards, part by part their checksums, the manifest, and ``zarr.json`` last, so
that nothing unfinished can be opened.
"""

import asyncio
import itertools
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import msgspec
import numpy as np
import obstore
from obstore.store import ObjectStore

from harness.datasets.manifest import DatasetSpec, Manifest, read
from harness.errors import BadUseError
from harness.machine.cpu import cores
from harness.targets.client import open_store
from harness.targets.target import EMBEDDED, Target
from setup_data.encode import (
    Coordinates,
    EncodedShard,
    Piece,
    encode_piece,
    encode_shard,
    pieces,
    shard_key,
    shards,
    zarr_json,
)
from setup_data.ledger import Ledger

IN_FLIGHT = 100
"""Uploads under way at once, by default."""

BUDGET = 1 << 30
"""Bytes of shards that one process holds at once, whatever their size and number."""

_WHOLE_NBYTES = 128 << 20
"""A shard up to this decoded size is one PUT; a larger one is a multipart upload that is encoded as it goes, to bound
memory. The embedded store pays for joining the parts, so this is no gain for smaller ones."""

_LEAST_PART = 8 << 20
_MOST_PARTS = 9_000  # S3 allows 10,000
_PARTS_AT_ONCE = 4
_PIECES_AT_ONCE = 4
_STREAM_NBYTES = 256 << 20
"""What a streamed shard holds at once, at most: parts under way and the pieces being encoded ahead of them."""

_RATE_NBYTES = 512 << 20
"""Decoded bytes of the shards whose bare PUTs are measured."""

Advance = Callable[[int], None]
"""Called with the decoded bytes of each shard that is stored."""

Numbered = tuple[int, Coordinates]
"""A shard by its number in C order and its position."""

StoreShards = Callable[[Ledger, Iterator[Numbered], Advance], None]
"""Stores shards, records each in the ledger, and stores the ledger's parts as they become complete."""


class Report(msgspec.Struct, kw_only=True):
    """What became of one dataset. Rates are of stored bytes (10**6 a second); unknown is None."""

    dataset: str
    status: Literal["written", "already written", "unfinished"]
    shards: int
    skipped_shards: int
    """Shards that an interrupted run had stored."""
    decoded_bytes: int
    stored_bytes: int | None = None
    """Bytes of all shards."""
    ratio: float | None = None
    """Decoded over stored bytes."""
    seconds: float | None = None
    write_mb_s: float | None = None
    """Stored bytes this run wrote, per second from its first shard's encoding to ``zarr.json``."""
    raw_put_mb_s: float | None = None
    """The same of bare PUTs of already encoded shards, as many in flight."""
    write_to_raw: float | None = None


def open_to_write(target: Target) -> ObjectStore:
    """Return the store of `target`."""
    # The embedded store fails for good reasons only, such as a full disk: there is nothing to wait for.
    return open_store(target, retry=target.name != EMBEDDED)


def write(
    store: ObjectStore,
    spec: DatasetSpec,
    *,
    in_flight: int = IN_FLIGHT,
    overwrite: bool = False,
    advance: Advance = lambda _: None,
    most_shards: int | None = None,
    store_shards: StoreShards | None = None,
) -> Report:
    """Write a dataset into `store`, or what is missing of it.

    Parameters
    ----------
    store
        Root of the target.
    spec
        The dataset.
    in_flight
        Uploads under way at once; fewer where their bytes together would exceed 1 GiB.
    overwrite
        Replace whatever stands there.
    advance
        Told the decoded bytes of each stored shard.
    most_shards
        Stop after this many and leave the dataset unfinished.
    store_shards
        Who encodes and stores the shards; by default threads of this process, `in_flight` uploads at once.

    Raises
    ------
    BadUseError
        Another dataset stands there.
    obstore.exceptions.BaseError
        The store failed or refused.
    """
    if overwrite:
        remove(store, spec)
    ledger = Ledger(store, spec)
    report = Report(
        dataset=spec.key, status="written", shards=len(ledger.sizes), skipped_shards=0, decoded_bytes=spec.nbytes
    )
    if _is_written(store, spec):
        ledger.remove()  # a run killed between the last two steps leaves them
        advance(spec.nbytes)
        report.status = "already written"
        return report
    ledger.begin()
    report.skipped_shards = int(np.count_nonzero(ledger.sizes))
    advance(report.skipped_shards * spec.shard_nbytes)
    before, started = int(ledger.sizes.sum()), time.perf_counter()
    (store_shards or _here(store, in_flight))(ledger, itertools.islice(ledger.remaining(), most_shards), advance)
    if not ledger.sizes.all():
        report.status = "unfinished"
        return report
    obstore.put(store, spec.key + Manifest.SUFFIX, ledger.manifest().encode())
    obstore.put(store, f"{spec.key}/zarr.json", zarr_json(spec))
    report.seconds = time.perf_counter() - started
    ledger.remove()
    report.stored_bytes = int(ledger.sizes.sum())
    report.ratio = spec.nbytes / report.stored_bytes
    if report.skipped_shards < report.shards:
        report.write_mb_s = (report.stored_bytes - before) / report.seconds / 1e6
    return report


def _here(store: ObjectStore, in_flight: int) -> StoreShards:
    """Return what stores shards from this process."""

    def store_shards(ledger: Ledger, remaining: Iterator[Numbered], advance: Advance) -> None:
        async def stored(number: int, encoded: EncodedShard) -> None:
            advance(ledger.spec.shard_nbytes)
            part = ledger.record(number, encoded)
            if part is not None:
                await obstore.put_async(store, ledger.part_key(number), part)

        uploader = Uploader(store, ledger.spec, stored, threads=cores(), in_flight=in_flight)
        asyncio.run(uploader.run(remaining))

    return store_shards


async def store_shard(
    store: ObjectStore, spec: DatasetSpec, shard: Coordinates, encoders: ThreadPoolExecutor
) -> EncodedShard:
    """Encode one shard, store it, and return its checksums."""
    encoded = EncodedShard(spec)
    bodies = _bodies(spec, shard, encoded, encoders)
    if _streams(spec):
        await _put_streamed(store, spec, shard, bodies)
    else:
        await _put_whole(store, spec, shard, b"".join([body async for body in bodies]))
    return encoded


def measure_put_rate(store: ObjectStore, spec: DatasetSpec, *, in_flight: int = IN_FLIGHT) -> float | None:
    """Return the rate of bare PUTs of a dataset's shards (the first 512 MiB) in MB/s; None if one is larger.

    They are encoded first, stored under a scratch prefix with `in_flight` at once, and removed.
    """
    count = _RATE_NBYTES // spec.shard_nbytes
    if count == 0:
        return None
    bodies = [encode_shard(spec, shard) for shard in itertools.islice(shards(spec), count)]
    keys = [f"{spec.preset}/zcb-scratch-{os.getpid()}/{number}" for number in range(len(bodies))]
    try:
        seconds = asyncio.run(_put_all(store, keys, bodies, in_flight))
    finally:
        obstore.delete(store, keys)
    return sum(map(len, bodies)) / seconds / 1e6


def remove(store: ObjectStore, spec: DatasetSpec) -> None:
    """Remove a dataset, finished or not, so that it cannot be opened from the first moment on."""
    _delete(store, f"{spec.key}/zarr.json")
    _delete(store, spec.key + Manifest.SUFFIX)
    Ledger(store, spec).remove()
    for batch in obstore.list(store, f"{spec.key}/"):
        obstore.delete(store, [meta["path"] for meta in batch])


def _delete(store: ObjectStore, key: str) -> None:
    """Delete an object if it is there: S3 does not mind a missing one, a local directory does."""
    try:
        obstore.delete(store, key)
    except FileNotFoundError:
        return


def _is_written(store: ObjectStore, spec: DatasetSpec) -> bool:
    """Whether exactly this dataset is finished; anything else that can be opened there is an error."""
    metadata = read(store, f"{spec.key}/zarr.json")
    if metadata is None:
        return False
    data = read(store, spec.key + Manifest.SUFFIX)
    if data is None:
        raise BadUseError(f"an array without a manifest stands at {spec.key}: replace it with --overwrite")
    try:
        same = Manifest.decode(data).spec == spec and metadata == zarr_json(spec)
    except BadUseError as error:
        raise BadUseError(f"{spec.key}: {error}: replace it with --overwrite") from error
    if not same:
        raise BadUseError(
            f"{spec.key} is already written with another shape, codec, order or seed: replace it with --overwrite"
        )
    return True


class _Budget:
    """Bytes that may be held at once; a request beyond the whole is granted alone."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._held = 0
        self._freed = asyncio.Condition()

    async def take(self, nbytes: int) -> None:
        async with self._freed:
            await self._freed.wait_for(lambda: not self._held or self._held + nbytes <= self._nbytes)
            self._held += nbytes

    async def give(self, nbytes: int) -> None:
        async with self._freed:
            self._held -= nbytes
            self._freed.notify_all()


class Uploader:
    """Has shards encoded and stores them, within the limits on number and memory.

    Parameters
    ----------
    store
        Root of the target.
    spec
        The dataset.
    stored
        Awaited with the number and the checksums of each shard that is stored.
    threads
        How many encode.
    in_flight
        Uploads under way at once.
    budget
        Bytes of shards held at once; a shard beyond them is held alone.
    """

    def __init__(
        self,
        store: ObjectStore,
        spec: DatasetSpec,
        stored: Callable[[int, EncodedShard], Awaitable[None]],
        *,
        threads: int,
        in_flight: int,
        budget: int = BUDGET,
    ) -> None:
        self._store = store
        self._spec = spec
        self._stored = stored
        self._threads = threads
        self._tasks = asyncio.Semaphore(in_flight + 2 * threads)  # the encoders always have a next shard
        self._uploads = asyncio.Semaphore(in_flight)
        self._budget = _Budget(budget)

    async def run(self, remaining: Iterable[Numbered]) -> None:
        """Store the `remaining` shards; the first error ends all."""
        spec = self._spec
        reserved = _STREAM_NBYTES if _streams(spec) else spec.shard_nbytes
        try:
            with ThreadPoolExecutor(self._threads) as encoders:
                async with asyncio.TaskGroup() as group:
                    for number, shard in remaining:
                        await self._tasks.acquire()
                        await self._budget.take(reserved)
                        group.create_task(self._store_shard(number, shard, encoders, reserved))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _store_shard(self, number: int, shard: Coordinates, encoders: ThreadPoolExecutor, reserved: int) -> None:
        spec = self._spec
        encoded = EncodedShard(spec)
        bodies = _bodies(spec, shard, encoded, encoders)
        if _streams(spec):
            async with self._uploads:
                await _put_streamed(self._store, spec, shard, bodies)
        else:
            body = b"".join([body async for body in bodies])
            await self._budget.give(reserved - len(body))
            reserved = len(body)
            async with self._uploads:
                await _put_whole(self._store, spec, shard, body)
            del body
        await self._budget.give(reserved)
        self._tasks.release()
        await self._stored(number, encoded)


async def _bodies(
    spec: DatasetSpec, shard: Coordinates, encoded: EncodedShard, encoders: ThreadPoolExecutor
) -> AsyncIterator[bytes]:
    """Yield a shard's bytes in order, a few of its pieces being encoded at once."""
    loop = asyncio.get_running_loop()
    todo = pieces(spec)

    def next_pieces(count: int) -> list[asyncio.Future[Piece]]:
        boxes = itertools.islice(todo, count)
        return [loop.run_in_executor(encoders, encode_piece, spec, shard, *box) for box in boxes]

    waiting = deque(next_pieces(_PIECES_AT_ONCE))
    while waiting:
        yield encoded.add(await waiting.popleft())
        waiting += next_pieces(1)
    yield encoded.index()


async def _put_streamed(
    store: ObjectStore, spec: DatasetSpec, shard: Coordinates, bodies: AsyncIterator[bytes]
) -> None:
    await obstore.put_async(
        store,
        shard_key(spec, shard),
        bodies,
        use_multipart=True,
        chunk_size=_part_nbytes(spec),
        max_concurrency=_PARTS_AT_ONCE,
    )


async def _put_whole(store: ObjectStore, spec: DatasetSpec, shard: Coordinates, body: bytes) -> None:
    await obstore.put_async(store, shard_key(spec, shard), body, use_multipart=False)


async def _put_all(store: ObjectStore, keys: list[str], bodies: list[bytes], in_flight: int) -> float:
    """Store all `bodies` and return the seconds it took."""
    uploads = asyncio.Semaphore(in_flight)

    async def put(key: str, body: bytes) -> None:
        async with uploads:
            await obstore.put_async(store, key, body, use_multipart=False)

    started = time.perf_counter()
    await asyncio.gather(*map(put, keys, bodies))
    return time.perf_counter() - started


def _streams(spec: DatasetSpec) -> bool:
    return spec.shard_nbytes > _WHOLE_NBYTES


def _part_nbytes(spec: DatasetSpec) -> int:
    """Return the size of a multipart upload's parts: an incompressible shard must fit in their number too."""
    return max(_LEAST_PART, (spec.shard_nbytes + spec.shard_nbytes // 8) // _MOST_PARTS)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
