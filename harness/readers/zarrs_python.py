"""zarrs-python: zarr-python with zarrs' codec pipeline in Rust."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, override

from harness.errors import UnsupportedError
from harness.readers.base import Reader, Turns, refusals
from harness.readers.settings import CORES, ENVIRONMENT, IN_FLIGHT, Setting
from harness.readers.zarr_python import ZARR_CONFIG, demand_pipeline, opened

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.datasets.array import ArrayInfo
    from harness.workload.model import Workload
    from harness.workload.selections import Box

_PIPELINE = "zarrs.ZarrsCodecPipeline"


class ZarrsPythonObstore(Reader):
    """The pipeline over zarr-python's ObjectStore, whose settings it takes over for an object store of its own.

    It cannot stride, so such a read is one call per chunk, all under way at once. Its requests cannot be counted from
    Python: the store counts them.
    """

    name = "zarrs-python+obstore"
    packages = ("zarrs", "zarr", "obstore", "numpy")
    rank = 40
    decoder = "zarrs"
    strides = False
    reads_one = True
    only_own_address = frozenset({"gs"})
    settings = (
        Setting(
            name="RAYON_NUM_THREADS",
            of=ENVIRONMENT,
            default=CORES,
            values=(16, IN_FLIGHT),
            meaning="Threads that decode, each of which a request blocks.",
        ),
        Setting(
            name="codec_pipeline.chunk_concurrent_minimum",
            of=ZARR_CONFIG,
            default="4",
            values=(IN_FLIGHT, 1024),
            meaning="Shards under way at once, before the threads left are given to the chunks inside them.",
        ),
        Setting(
            name="threading.max_workers",
            of=ZARR_CONFIG,
            default=IN_FLIGHT,
            values=(1024,),
            meaning="Threads that the pipeline shares out among shards and chunks.",
        ),
    )
    holds_back = (
        "zarrs-python reads the indexes of shards while it holds the GIL, so calls wait for each other; and each "
        "request blocks one of rayon's threads"
    )
    _array: Any

    @override
    def open(self, workload: Workload) -> None:
        try:
            import zarr
            import zarrs  # noqa: F401 - registers the pipeline
            from zarr.storage import ObjectStore
        except ImportError as error:
            raise UnsupportedError(f"zarrs-python cannot be imported: {error}") from error
        import numpy as np

        from harness.targets.authority import trusted_by_environment
        from harness.targets.client import open_store

        if workload.target.scheme in self.only_own_address and workload.target.endpoint:
            raise UnsupportedError("zarrs-python cannot be told of another address for gs:// than Google's own")
        # Its requests block the threads that decode, so their number is what bounds requests in flight.
        zarr.config.set(
            {
                "codec_pipeline.path": _PIPELINE,
                "codec_pipeline.strict": True,  # else it gives what it cannot do to zarr-python's
                "threading.max_workers": workload.in_flight,
                "async.concurrency": workload.in_flight,
                **self.chosen_of(ZARR_CONFIG),
            }
        )
        target = trusted_by_environment(workload.target)
        store = ObjectStore(open_store(target, prefix=workload.array.key), read_only=True)
        from zarrs.pipeline import UnsupportedDataTypeError, UnsupportedMetadataError
        from zarrs.utils import FillValueNoneError

        self._refusals = UnsupportedMetadataError, UnsupportedDataTypeError, FillValueNoneError
        with refusals("zarrs-python", *self._refusals):
            self._array = opened(store, workload)
        self._demand_readable(workload.array)
        demand_pipeline(self._array, _PIPELINE)
        self._dtype = np.dtype(workload.array.dtype)
        self.select(workload)
        self._turns = Turns(workload.concurrent_reads)
        most = max(len(calls) for _, calls in self._plans)
        self._calls = Turns(min(most * workload.concurrent_reads, workload.in_flight))

    def _demand_readable(self, info: ArrayInfo) -> None:
        """Refuse what it refuses itself, but only when it reads, and what it reads wrong (docs/public.md)."""
        dtype = self._array.dtype
        for stands_against, reason in (
            (not dtype.isnative, "Non-native byte order not supported"),
            (self._array.order == "F", "input array must be a C contiguous array"),
            (
                dtype.kind == "c" and _stores_big_endian(getattr(self._array.metadata, "codecs", ())),
                "of big-endian complex numbers it exchanges the real and the imaginary parts",
            ),
            (info.nan_payload, "of a fill value it loses a NaN's payload"),
        ):
            if stands_against:
                raise UnsupportedError(f"zarrs-python cannot read this array: {reason}")

    @override
    def select(self, workload: Workload) -> None:
        from harness.workload.patterns import selection_shape
        from harness.workload.selections import boxes

        self._plans = [(selection_shape(read), boxes(read, workload.array.chunk_shape)) for read in workload.reads]

    @override
    def read(self) -> Sequence[npt.NDArray[Any]]:
        return self._turns.each(self.read_one, range(len(self._plans)))

    @override
    def read_one(self, number: int) -> npt.NDArray[Any]:
        import numpy as np

        shape, calls = self._plans[number]
        if len(calls) == 1:
            return self._answer(calls[0])
        array = np.empty(shape, self._dtype)

        def fill(box: Box) -> None:
            array[box.in_read] = self._answer(box)

        self._calls.each(fill, calls)
        return array

    def _answer(self, box: Box) -> npt.NDArray[Any]:
        with refusals("zarrs-python", *self._refusals):
            answer: npt.NDArray[Any] = self._array[box.wanted][box.of_answer]
        return answer

    @override
    def calls(self, workload: Workload) -> int:
        return sum(len(calls) for _, calls in self._plans)

    @override
    def close(self) -> None:
        self._turns.close()
        self._calls.close()


def _stores_big_endian(codecs: Iterable[Any]) -> bool:
    """Whether codecs, or those inside shards, store elements with their most significant byte first."""
    return any(
        getattr(getattr(codec, "endian", None), "value", getattr(codec, "endian", None)) == "big"
        or _stores_big_endian(getattr(codec, "codecs", ()))
        for codec in codecs
    )
