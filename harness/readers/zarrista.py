"""zarrista: zarrs' arrays in Python, without zarr-python."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, override

from harness.errors import UnsupportedError
from harness.readers.base import Reader, refusals
from harness.readers.settings import CALLS, OBSTORE_CLIENT, OBSTORE_POOL, TOKIO_THREADS, Setting
from harness.readers.zarrs import CODEC_OPTIONS, HOLDS_BACK, ZARRS_OPTIONS

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.workload.model import Workload
    from harness.workload.selections import Box


class _Plan(NamedTuple):
    """How a read is made."""

    shape: tuple[int, ...]
    """Of the array that it returns."""
    calls: list[Box]
    by_chunk: bool
    """Whether each call is for a chunk, since the read strides."""


class Zarrista(Reader):
    """Its asynchronous array over an obstore store, as it takes it.

    It cannot stride, so such a read is one call per chunk, all under way at once; a cache of shard indexes that it
    offers for them is a setting, made inside the read. Its requests cannot be counted from Python: the store counts
    them.
    """

    name = "zarrista"
    packages = ("zarrista", "obstore", "numpy")
    rank = 60
    decoder = "zarrs"
    represents = 1
    client = "obstore"
    strides = False
    settings = (
        *ZARRS_OPTIONS,
        Setting(
            name="shard_cache",
            of=CALLS,
            default="none",
            values=("read", "shard"),
            meaning="Who shares an AsyncShardCache, which ends with the read: nobody, all of its calls, or those for a "
            "shard.",
        ),
        OBSTORE_POOL,
        TOKIO_THREADS,
    )
    holds_back = HOLDS_BACK
    reads_one = True

    @override
    def open(self, workload: Workload) -> None:
        try:
            import zarrista
        except ImportError as error:
            raise UnsupportedError(f"zarrista cannot be imported: {error}") from error
        import numpy as np

        from harness.targets.authority import trusted_by_environment
        from harness.targets.client import open_store

        client = self.chosen_of(OBSTORE_CLIENT)
        store = open_store(trusted_by_environment(workload.target), prefix=workload.array.key, client=client)
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

        async def opened() -> Any:  # its calls need a running loop already when they are made
            return await zarrista.AsyncArray.open(store)

        with refusals("zarrista", zarrista.exceptions.ArrayCreateError):
            self._array = self._loop.run_until_complete(opened())
        self._options = {"concurrent_target": workload.in_flight, **self.chosen_of(CODEC_OPTIONS)}
        self._info = workload.array
        self._dtype = np.dtype(workload.array.dtype)
        self.select(workload)
        self._turns = asyncio.Semaphore(workload.concurrent_reads)
        self._permits = asyncio.Semaphore(workload.in_flight)

    def _planned(self, workload: Workload) -> list[_Plan]:
        from harness.workload.patterns import selection_shape
        from harness.workload.selections import boxes, boxes_of_cells

        by_shard = self.chosen_of(CALLS).get("task_per_shard")
        plans = []
        for read in workload.reads:
            calls = boxes(read, workload.array.chunk_shape)
            by_chunk = len(calls) > 1
            if by_shard and not by_chunk:
                calls = boxes_of_cells(read, workload.array.shard_shape)
            plans.append(_Plan(selection_shape(read), calls, by_chunk))
        return plans

    @override
    def select(self, workload: Workload) -> None:
        self._plans = self._planned(workload)

    @override
    def read(self) -> Sequence[npt.NDArray[Any]]:
        return self._loop.run_until_complete(self._read_all())

    @override
    def read_one(self, number: int) -> npt.NDArray[Any]:
        with self._starting:  # `read` drives the loop itself: from here on a thread does
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._read_one(self._plans[number]), self._loop).result()

    async def _read_all(self) -> list[npt.NDArray[Any]]:
        return await asyncio.gather(*map(self._read_one, self._plans))

    async def _read_one(self, plan: _Plan) -> npt.NDArray[Any]:
        import numpy as np

        async with self._turns:
            if len(plan.calls) == 1:
                return (await self._call(plan.calls[0]))[plan.calls[0].of_answer]
            array = np.empty(plan.shape, self._dtype)
            by_chunk = plan.by_chunk and self._info.is_sharded  # a cache is of the chunks inside shards
            sharing = self.chosen_of(CALLS).get("shard_cache") if by_chunk else None
            caches: dict[tuple[int, ...], Any] = {}

            async def fill(box: Box) -> None:
                answer = await (self._call_with_cache(box, caches, sharing) if sharing else self._call(box))
                array[box.in_read] = answer[box.of_answer]

            await asyncio.gather(*map(fill, plan.calls))
            return array

    async def _call(self, box: Box) -> npt.NDArray[Any]:
        import numpy as np

        async with self._permits:
            answer = await self._array.retrieve_array_subset(box.wanted, **self._options)
        with refusals("zarrista", TypeError):  # numpy may not know the type that it names
            return np.asarray(answer)

    async def _call_with_cache(self, box: Box, caches: dict[tuple[int, ...], Any], sharing: object) -> npt.NDArray[Any]:
        """Return what `_call` returns, by the call that takes a cache: it retrieves the whole chunk."""
        import numpy as np

        sizes = self._info.chunk_shape
        chunk = [part.start // size for part, size in zip(box.wanted, sizes, strict=True)]
        shard = self._info.place(chunk)[0] if sharing == "shard" else ()
        if shard not in caches:
            caches[shard] = self._array.shard_cache()
        async with self._permits:
            answer = await self._array.retrieve_subchunk(chunk, shard_cache=caches[shard], **self._options)
        begins = [number * size for number, size in zip(chunk, sizes, strict=True)]
        wanted = zip(box.wanted, begins, strict=True)
        return np.asarray(answer)[tuple(slice(part.start - begin, part.stop - begin) for part, begin in wanted)]

    @override
    def calls(self, workload: Workload) -> int:
        return sum(len(plan.calls) for plan in self._plans)

    @override
    def close(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
