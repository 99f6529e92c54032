"""zarrista: zarrs' arrays in Python, without zarr-python."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, override

from harness.errors import UnsupportedError
from harness.readers.base import Reader

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.workload.model import Workload
    from harness.workload.selections import Box


class Zarrista(Reader):
    """Its asynchronous array over an obstore store, as it takes it.

    It cannot stride, so such a read is one call per chunk, all under way at once; a cache of shard indexes would
    outlive the read, so there is none. Its requests cannot be counted from Python: the store counts them.
    """

    name = "zarrista"
    packages = ("zarrista", "obstore", "numpy")
    rank = 60
    decoder = "zarrs"
    represents = 1
    client = "obstore"
    strides = False
    selects = True
    reads_one = True

    @override
    def open(self, workload: Workload) -> None:
        try:
            import zarrista
        except ImportError as error:
            raise UnsupportedError(f"zarrista cannot be imported: {error}") from error
        import numpy as np

        from harness.targets.client import open_store

        store = open_store(workload.target, prefix=workload.array.key)
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

        async def opened() -> Any:  # its calls need a running loop already when they are made
            return await zarrista.AsyncArray.open(store)

        self._array = self._loop.run_until_complete(opened())
        self._in_flight = workload.in_flight
        self._dtype = np.dtype(workload.array.dtype)
        self.select(workload)
        self._turns = asyncio.Semaphore(workload.concurrent_reads)
        self._permits = asyncio.Semaphore(workload.in_flight)

    @override
    def select(self, workload: Workload) -> None:
        from harness.workload.patterns import selection_shape
        from harness.workload.selections import boxes

        self._plans = [(selection_shape(read), boxes(read, workload.array.chunk_shape)) for read in workload.reads]

    @override
    def read(self) -> Sequence[npt.NDArray[Any]]:
        return self._loop.run_until_complete(self._read_all())

    @override
    def read_one(self, number: int) -> npt.NDArray[Any]:
        with self._starting:  # `read` drives the loop itself: from here on a thread does
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._read_one(*self._plans[number]), self._loop).result()

    async def _read_all(self) -> list[npt.NDArray[Any]]:
        return await asyncio.gather(*(self._read_one(shape, calls) for shape, calls in self._plans))

    async def _read_one(self, shape: tuple[int, ...], calls: list[Box]) -> npt.NDArray[Any]:
        import numpy as np

        async with self._turns:
            if len(calls) == 1:
                return await self._call(calls[0])
            array = np.empty(shape, self._dtype)

            async def fill(box: Box) -> None:
                answer = await self._call(box)
                array[box.in_read] = answer[box.of_answer]

            await asyncio.gather(*map(fill, calls))
            return array

    async def _call(self, box: Box) -> npt.NDArray[Any]:
        import numpy as np

        async with self._permits:
            answer = await self._array.retrieve_array_subset(box.wanted, concurrent_target=self._in_flight)
        return np.asarray(answer)

    @override
    def calls(self, workload: Workload) -> int:
        return sum(len(calls) for _, calls in self._plans)

    @override
    def close(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
