"""xarray with dask: blocks of the array are tasks, which dask's scheduler of threads runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, override

from harness.errors import UnsupportedError
from harness.readers.base import Reader
from harness.readers.settings import CORES, IN_FLIGHT, OBSTORE_POOL, TOKIO_THREADS, Setting
from harness.readers.xarray import XarrayReader

if TYPE_CHECKING:
    from harness.workload.model import Workload

_OPEN_ZARR = "xarray.open_zarr"
_DASK_CONFIG = "dask.config"
_UNITS = ("s", "ms", "us", "ns")
"""Of time, in pandas."""
_TO_PANDAS = (
    "xarray hands dates and durations that dask computed to pandas, which knows no unit above a second "
    "(xarray/core/variable.py:230)"
)


class DaskReader(XarrayReader):
    """`xarray.open_zarr` as it is where dask is installed: each block is a chunk of the array, so a task is a read.

    A task's block is read into an array of its own, and dask puts blocks together where zarr-python does not see it:
    so there is no timeline.
    """

    name = "dask"
    packages: ClassVar[tuple[str, ...]] = ("dask", *XarrayReader.packages)
    rank = 34
    layer_over = "xarray"
    records_timelines = False
    timeline = Reader.timeline
    holds_back = (
        "the blocks of xarray are chunks, not shards: each task reads the index of its shard before its chunk, and "
        "requests share one event loop with the steps of every chunk"
    )
    settings: ClassVar[tuple[Setting, ...]] = (
        Setting(
            name="chunks",
            of=_OPEN_ZARR,
            default="{}: those of the array",
            values=("auto", "shards"),
            meaning="Elements of a block: `auto` has blocks of 128 MiB, `shards` those of a shard.",
        ),
        Setting(
            name="pool",
            of=_DASK_CONFIG,
            default=IN_FLIGHT,
            values=(CORES, 32),
            meaning="Threads of the pool that runs tasks.",
        ),
        OBSTORE_POOL,
        TOKIO_THREADS,
    )
    _pool: ThreadPoolExecutor | None = None

    @override
    def open(self, workload: Workload) -> None:
        try:
            import dask
            import numpy as np
        except ImportError as error:
            raise UnsupportedError(f"dask cannot be imported: {error}") from error

        dtype = np.dtype(workload.array.dtype)
        if dtype.kind in "mM" and np.datetime_data(dtype)[0] not in _UNITS:
            raise UnsupportedError(_TO_PANDAS)
        threads = int(self.chosen_of(_DASK_CONFIG).get("pool", workload.in_flight))
        self._pool = ThreadPoolExecutor(threads)
        dask.config.set(scheduler="threads", pool=self._pool)
        super().open(workload)

    @override
    def _opened_array(self, store: Any, pipeline: str | None) -> Any:
        # Else dask pickles the store to name the array, and the copies of its class that this makes count elsewhere.
        store.__dask_tokenize__ = lambda: id(store)
        return super()._opened_array(store, pipeline)

    @override
    def _blocks(self) -> Any:
        chosen = self.chosen_of(_OPEN_ZARR).get("chunks")
        if chosen != "shards":
            return chosen or {}
        if self._workload is None:
            raise RuntimeError("blocks before open")
        return {f"axis_{number}": size for number, size in enumerate(self._workload.array.shard_shape)}

    @override
    def close(self) -> None:
        super().close()
        if self._pool is not None:
            self._pool.shutdown()
