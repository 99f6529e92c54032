"""TensorStore: Google's C++ library, with its own drivers for zarr3 and for the clouds."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, override

from harness.errors import UnsupportedError
from harness.machine.cpu import cores
from harness.readers.base import Reader, Turns
from harness.readers.settings import CALLS, CORES, ENVIRONMENT, IN_FLIGHT, Setting
from harness.targets.tensorstore import UNREAD

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.workload.model import Workload


_CONTEXT = "tensorstore.Context"
_REFUSALS = ("FAILED_PRECONDITION", "INVALID_ARGUMENT", "UNIMPLEMENTED")
"""What stands first where it does not know a codec or a type, or not with these settings."""

_NO_JSON = "Invalid JSON"
"""What it says of metadata in which NaN stands bare, and of any that are no JSON."""


class TensorStoreReader(Reader):
    """The zarr3 driver over its own driver of the cloud, without a cache, so that each read fetches its indexes anew.

    What it counts itself is experimental and of the whole process, so the store counts its requests.
    """

    name = "tensorstore"
    packages = ("tensorstore", "numpy")
    rank = 50
    decoder = "tensorstore"
    represents = 1
    assumes_metadata = True
    client = "tensorstore"
    unread = UNREAD
    reads_one = True
    requester_pays = False
    settings = (
        Setting(
            name="request_concurrency",
            of=_CONTEXT,
            default=IN_FLIGHT,
            values=(32,),
            meaning="Requests that a driver has under way; `s3_`, `gcs_` or `http_` stands before the name.",
        ),
        Setting(
            name="data_copy_concurrency",
            of=_CONTEXT,
            default=CORES,
            values=(1, 4, 16),
            meaning="Threads that decode and copy.",
        ),
        Setting(
            name="TENSORSTORE_HTTP_THREADS",
            of=ENVIRONMENT,
            default="4",
            values=(1, 2, 8, 16),
            meaning="Threads that receive from the network.",
        ),
        Setting(
            name="Batch",
            of=CALLS,
            default="False",
            values=(True,),
            meaning="Whether each read is one batch, whose requests the driver may join.",
        ),
    )

    pool_bytes = 0
    """Of the cache pool, which keeps indexes and decoded chunks between reads; a benchmark of reads has none."""

    @override
    def open(self, workload: Workload) -> None:
        try:
            import tensorstore
        except ImportError as error:
            raise UnsupportedError(f"tensorstore cannot be imported: {error}") from error
        from harness.datasets.array import METADATA_NAMES
        from harness.targets.tensorstore import tensorstore_location

        chosen = self.chosen_of(_CONTEXT)
        requests = int(chosen.get("request_concurrency", workload.in_flight))
        found = tensorstore_location(workload.target, workload.array.key, in_flight=requests)
        threads = {"limit": chosen.get("data_copy_concurrency", cores())}
        resources = {"cache_pool": {"total_bytes_limit": self.pool_bytes}, "data_copy_concurrency": threads}
        context = tensorstore.Context(resources | found.context)
        spec: dict[str, Any] = {
            "driver": "zarr3" if workload.array.zarr_format == 3 else "zarr",
            "kvstore": found.kvstore,
        }
        assumed = self.assumed is not None
        if assumed:
            spec["metadata"] = self.assumed
        try:
            opening = tensorstore.open(spec, context=context, open=True, read=True, assume_metadata=assumed)
            self._array = opening.result()
        except ValueError as error:
            name = METADATA_NAMES[workload.array.zarr_format]
            if not str(error).startswith(_REFUSALS) and not (
                _NO_JSON in str(error) and _reads(tensorstore.KvStore.open(found.kvstore, context=context), name)
            ):
                raise
            raise UnsupportedError(f"tensorstore cannot read this array: {_cause(error)}") from error
        self.select(workload)
        self._turns = Turns(workload.concurrent_reads)
        self._batch = tensorstore.Batch if self.chosen_of(CALLS).get("Batch") else contextlib.nullcontext

    @override
    def select(self, workload: Workload) -> None:
        self._selections = [tuple(slice(*axis) for axis in read) for read in workload.reads]

    @override
    def read(self) -> Sequence[npt.NDArray[Any]]:
        return self._turns.each(self.read_one, range(len(self._selections)))

    @override
    def read_one(self, number: int) -> npt.NDArray[Any]:
        with self._batch() as batch:
            future = self._array[self._selections[number]].read(order="C", batch=batch)
        answer: npt.NDArray[Any] = future.result()
        return answer

    @override
    def close(self) -> None:
        self._turns.close()


def _reads(opened: Any, name: str) -> bool:
    """Whether Python reads a stored document as JSON, bare NaN and all."""
    try:
        json.loads(opened.result()[name])
    except ValueError:
        return False
    return True


def _cause(error: ValueError) -> str:
    """Return the end of the library's chain of causes, without its dump of the whole specification."""
    said = " ".join(str(error).partition(" [tensorstore_spec=")[0].partition(" [source locations")[0].split())
    return said.partition("Error parsing object member ")[2] or said
