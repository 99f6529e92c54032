"""TensorStore: Google's C++ library, with its own zarr3 and S3 drivers."""

from collections.abc import Sequence
from typing import Any, override

import numpy.typing as npt

from harness.errors import UnsupportedError
from harness.readers.base import Reader, Turns, cores
from harness.workload import Workload


class TensorStoreReader(Reader):
    """The zarr3 driver over the s3 driver, without a cache, so that each read fetches its indexes anew.

    Its requests cannot be counted from Python: the store counts them.
    """

    name = "tensorstore"
    packages = ("tensorstore", "numpy")

    @override
    def open(self, workload: Workload) -> None:
        try:
            import tensorstore
        except ImportError as error:
            raise UnsupportedError(f"tensorstore cannot be imported: {error}") from error
        target, array = workload.target, workload.array
        store: dict[str, Any] = {
            "driver": "s3",
            "bucket": target.bucket,
            "path": "/".join(filter(None, (target.prefix, array.key))) + "/",
            "aws_region": target.region or "us-east-1",
            "aws_credentials": {"type": "anonymous" if target.anonymous else "default"},
        }
        if target.endpoint:
            store["endpoint"] = target.endpoint
        self._array = tensorstore.open(
            {"driver": "zarr3", "kvstore": store},
            context=tensorstore.Context(
                {
                    "cache_pool": {"total_bytes_limit": 0},
                    "s3_request_concurrency": {"limit": workload.in_flight},
                    "data_copy_concurrency": {"limit": cores()},
                }
            ),
            open=True,
            read=True,
        ).result()
        self._selections = [tuple(slice(*axis) for axis in read) for read in workload.reads]
        self._turns = Turns(workload.concurrent_reads)

    @override
    def read(self) -> Sequence[npt.NDArray[Any]]:
        return self._turns.each(self._read_one, self._selections)

    def _read_one(self, selection: tuple[slice, ...]) -> npt.NDArray[Any]:
        answer: npt.NDArray[Any] = self._array[selection].read(order="C").result()
        return answer

    @override
    def close(self) -> None:
        self._turns.close()
