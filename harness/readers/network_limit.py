"""The network limit: what is wanted fetched without decoding, which no reader can be expected to beat."""

from __future__ import annotations

import asyncio
import functools
import itertools
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, override

from harness.errors import MeasurementError
from harness.readers.base import Reader
from harness.results.sample import NETWORK_LIMIT, RequestCounts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from harness.datasets.shards import ShardIndex
    from harness.workload.model import Workload

MERGE_GAP_BYTES = 1 << 20
PART_BYTES = 8 << 20
_WHOLE_BYTES = 64 << 20
"""Objects of as many bytes in all are tried whole, whatever is wanted of them."""
_WHOLE_TIMES = 2
"""So are those of which at least every second byte is wanted."""

T = TypeVar("T")
Span = tuple[int, int]
Plan = Callable[[Sequence[Span]], list[Span]]
Wanted = tuple[str, Span | None]
"""The key of an object and the range that is wanted of it; None is its index, or all of it where it comes whole."""


class _Tasks(list[asyncio.Task[Any]]):
    """What brings something that is wanted, as long as a read that uses it is under way."""


Held = list[_Tasks]
"""What a read fetches, or gets from another one under way, until it ends."""

WHOLE = "whole"
_PARTS = "exact"
"""The plan for objects without an index, which has no ranges to merge."""


class _Shard(NamedTuple):
    """A stored object: a shard, or a chunk of an array without shards."""

    key: str
    inner: tuple[npt.NDArray[np.intp], ...]
    """Positions of the wanted chunks inside the shard, one index array per axis."""


class NetworkLimit(Reader):
    """obstore fetching indexes and chunks with the workload's requests in flight, bodies kept, nothing decoded.

    Several plans compete, as does a client in Rust: the conductor tries all and measures the fastest. `PLANS` fetch
    ranges once the index is there; `WHOLE` fetches shards whole, which brings the index along. What reads under way at
    once want alike is fetched once. What it counts are calls of obstore, which hides retries and redirects.
    """

    name = NETWORK_LIMIT
    packages = ("obstore",)
    competes_for = NETWORK_LIMIT
    is_control = True
    counts_requests = True

    def __init__(self) -> None:
        self._request_counts = RequestCounts()
        self._loop = asyncio.new_event_loop()
        self._variant, self._variants = "exact", tuple(PLANS)
        self._fetched: weakref.WeakValueDictionary[Wanted, _Tasks] = weakref.WeakValueDictionary()

    @override
    def open(self, workload: Workload) -> None:
        from harness.datasets.indexes import fetch_index
        from harness.targets.client import open_store

        array = workload.array
        self._fetch_end = fetch_index
        self._store = open_store(workload.target, prefix=array.key)
        self.select(workload)
        self._array = array
        self._permits = asyncio.Semaphore(workload.in_flight)
        self._turns = asyncio.Semaphore(workload.concurrent_reads)
        self._reads_meet = workload.has_reads_that_meet
        self._variants = _plans_for(workload)

    @override
    def select(self, workload: Workload) -> None:
        from harness.workload.selections import chunks_by_shard, wanted_chunks

        array = workload.array
        self._reads = [
            [
                _Shard(array.object_key(shard), inner)
                for shard, inner in chunks_by_shard(array, list(wanted_chunks(array, read))).items()
            ]
            for read in workload.reads
        ]
        self._most_nbytes = workload.wanted_bytes

    @override
    def variants(self) -> Sequence[str]:
        return self._variants

    @override
    def use(self, variant: str) -> None:
        self._variant = variant

    @override
    def read(self) -> Sequence[bytes]:
        """Return the bodies of all chunk requests."""
        return self._loop.run_until_complete(self._fetch_all())

    @override
    def check(self, workload: Workload, result: Sequence[bytes], *, first: int = 0) -> None:
        fetched = sum(map(len, result))
        if fetched < workload.wanted_bytes:
            of = f" by the reads from {first}" if first else ""
            raise MeasurementError(f"fetched {fetched} bytes of {workload.wanted_bytes} wanted{of}")

    async def _fetch_all(self) -> list[bytes]:
        reads = await asyncio.gather(*(self._fetch_read(shards) for shards in self._reads))
        return [body for bodies in reads for body in bodies]

    async def _fetch_read(self, shards: Sequence[_Shard]) -> list[bytes]:
        """Fetch for one read, when its turn has come: what a reader cannot know before a read, the limit cannot."""
        async with self._turns:
            in_parts = self._fetch_shard if self._array.is_sharded else self._fetch_object
            fetch = self._fetch_whole if self._variant == WHOLE else in_parts
            held: Held = []
            fetched = await asyncio.gather(*(fetch(shard, held) for shard in shards))
        return [body for bodies in fetched for body in bodies]

    async def _fetch_whole(self, shard: _Shard, held: Held) -> list[bytes]:
        """Fetch the object of a shard by one request."""
        found = await self._once((shard.key, None), functools.partial(self._asked, shard.key), held)
        return [body for body, _ in found]

    async def _fetch_object(self, shard: _Shard, held: Held) -> list[bytes]:
        """Fetch an object in parts: the first one's answer says how many there are."""
        begin = (0, PART_BYTES)
        first = await self._once((shard.key, begin), functools.partial(self._asked, shard.key, begin), held)
        rest = exact([(PART_BYTES, size) for _, size in first if size > PART_BYTES])
        return [*(body for body, _ in first), *await self._fetch_spans(shard.key, rest, held)]

    async def _asked(self, key: str, asked: Span | None = None) -> list[tuple[bytes, int]]:
        """Return an object, or a range from its first byte, and its size; nothing where no such object is stored."""
        async with self._permits:
            try:
                response = await self._store.get_async(key, options={"range": asked} if asked else None)
                body = cast("bytes", await response.bytes_async())
            except FileNotFoundError:
                self._count(b"")
                return []
        self._count(body)
        return [(body, response.meta["size"])]

    async def _fetch_shard(self, shard: _Shard, held: Held) -> list[bytes]:
        from harness.datasets.shards import MISSING

        index = await self._once((shard.key, None), functools.partial(self._fetch_index, shard.key), held)
        if index is None:
            return []
        begins, lengths = index.offsets[shard.inner], index.lengths[shard.inner]
        stored = begins != MISSING
        if int(lengths[stored].max(initial=0)) > self._most_nbytes:
            raise MeasurementError(f"the index of {shard.key} has a chunk longer than all that the workload wants")
        spans = sorted(zip(begins[stored].tolist(), (begins + lengths)[stored].tolist(), strict=True))
        return await self._fetch_chunks(shard.key, spans, held)

    async def _fetch_chunks(self, key: str, spans: Sequence[Span], held: Held) -> list[bytes]:
        """Fetch chunks of a shard by the plan: all, or what no other read under way has asked for."""
        plan = PLANS.get(self._variant, exact)
        if not self._reads_meet:
            return await self._fetch_spans(key, plan(spans), held)
        known = {span: self._fetched.get((key, span)) for span in spans}
        held.extend(tasks for tasks in known.values() if tasks is not None)
        left = [span for span, tasks in known.items() if tasks is None]
        new = [(part, self._loop.create_task(self._fetch_span(key, *part))) for part in plan(left)]
        for begin, end in left:
            own = _Tasks(task for part, task in new if part[0] < end and begin < part[1])
            self._fetched[key, (begin, end)] = own
            held.append(own)
        found = (tasks for tasks in known.values() if tasks is not None)
        tasks = dict.fromkeys([*itertools.chain.from_iterable(found), *(task for _, task in new)])
        return list(await asyncio.gather(*tasks))

    async def _fetch_spans(self, key: str, spans: Sequence[Span], held: Held) -> list[bytes]:
        """Fetch ranges of an object, each by a request."""
        fetches = {span: functools.partial(self._fetch_span, key, *span) for span in spans}
        return list(await asyncio.gather(*(self._once((key, span), fetch, held) for span, fetch in fetches.items())))

    async def _once(self, wanted: Wanted, fetch: Callable[[], Coroutine[None, None, T]], held: Held) -> T:
        """Return what `fetch` does, or did for a read that is under way beside this one."""
        if not self._reads_meet:
            return await fetch()
        tasks = self._fetched.get(wanted)
        if tasks is None:
            tasks = self._fetched[wanted] = _Tasks([self._loop.create_task(fetch())])
        held.append(tasks)
        found: T = await tasks[0]
        return found

    async def _fetch_index(self, key: str) -> ShardIndex | None:
        """Return the index of a shard; None where no such shard is stored."""
        array = self._array
        at_start = array.index_location == "start"
        async with self._permits:
            try:
                fetched = await self._fetch_end(self._store, key, array.index_nbytes, at_start=at_start)
            except FileNotFoundError:
                self._count(b"")
                return None
        self._request_counts.requests += fetched.heads
        self._request_counts.head_requests += fetched.heads
        self._count(fetched.body, index=not at_start)
        return array.index_of(fetched.body, fetched.object_nbytes)

    async def _fetch_span(self, key: str, begin: int, end: int) -> bytes:
        async with self._permits:
            body = cast("bytes", await self._store.get_range_async(key, start=begin, end=end))
        self._count(body)
        return body

    def _count(self, body: bytes, *, index: bool = False) -> None:
        self._request_counts.requests += 1
        self._request_counts.index_requests += index
        self._request_counts.fetched_bytes += len(body)

    @override
    def request_counts(self) -> RequestCounts:
        return self._request_counts

    @override
    def reset_request_counts(self) -> None:
        self._request_counts = RequestCounts()

    @override
    def close(self) -> None:
        self._loop.close()


def exact(spans: Sequence[Span]) -> list[Span]:
    """Return the chunks' own byte ranges, split into parts of at most 8 MiB."""
    return _parts(spans)


def merged(spans: Sequence[Span]) -> list[Span]:
    """Return byte ranges merged over gaps of up to 1 MiB, split into parts of at most 8 MiB.

    `spans` are half-open and in ascending order.
    """
    whole: list[Span] = []
    for begin, end in spans:
        if whole and begin - whole[-1][1] <= MERGE_GAP_BYTES:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((begin, end))
    return _parts(whole)


def _parts(spans: Sequence[Span]) -> list[Span]:
    return [(i, min(i + PART_BYTES, end)) for begin, end in spans for i in range(begin, end, PART_BYTES)]


PLANS: dict[str, Plan] = {"exact": exact, "merged": merged}
"""Every chunk's own range, and ranges merged over gaps."""


def _plans_for(workload: Workload) -> tuple[str, ...]:
    """Return the plans that are worth trying: a huge object is not fetched for a chunk of it."""
    small = workload.object_bytes <= max(_WHOLE_BYTES, _WHOLE_TIMES * workload.wanted_bytes)
    whole = (WHOLE,) if workload.object_bytes and small else ()
    ranges = tuple(PLANS) if workload.array.is_sharded else (_PARTS,)
    return (*ranges, *whole)
