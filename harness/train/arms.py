"""Arms: ways to feed batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, override

import numpy as np

from harness.readers import reader_class
from harness.readers.base import Reader
from harness.readers.tensorstore import TensorStoreReader
from harness.train.batches import Ahead, Arm
from harness.train.data_loader import DataLoader
from harness.train.names import CACHE_POOL, LOADINGS, MEMORY, POOL_BYTES, check
from harness.train.tensors import Crop

if TYPE_CHECKING:
    from harness.workload.training import Training


class OfReader(Ahead):
    """A reader in one process, by its own concurrency."""

    def __init__(self, make: Callable[[], Reader]) -> None:
        super().__init__()
        self._make = make
        self._readers: list[Reader] = []

    @override
    def open(self, training: Training) -> None:
        super().open(training)
        for work in training.workloads:
            reader = self._make()
            if training.index == "warm":
                reader.keep_indexes()
            reader.open(work)
            self._readers.append(reader)

    @override
    def _crop(self, dataset: int, number: int) -> Crop:
        crop: Crop = self._readers[dataset].read_one(number)
        return crop

    @override
    def versions(self) -> dict[str, str]:
        return self._readers[0].versions()

    @override
    def close(self) -> None:
        super().close()
        for reader in self._readers:
            reader.close()


class _Pooled(TensorStoreReader):
    """TensorStore with a cache pool for chunks and indexes, in which what was used last stays."""

    pool_bytes = POOL_BYTES

    @override
    def keep_indexes(self) -> None:
        """Nothing to do: the pool keeps them."""


class Memory(Ahead):
    """Crops that lie in RAM, read before the loop: processing and batching alone are left."""

    @override
    def open(self, training: Training) -> None:
        super().open(training)
        self._crops: list[Sequence[Any]] = []
        for work in training.workloads:
            reader = reader_class(_CROPS_BY)()
            reader.open(work)
            try:
                self._crops.append([np.array(crop) for crop in reader.read()])
            finally:
                reader.close()

    @override
    def _crop(self, dataset: int, number: int) -> Crop:
        crop: Crop = self._crops[dataset][number]
        return crop


_CROPS_BY = "tensorstore"
"""The reader of the crops that the arm `MEMORY` holds: not one that changes with the zarr under test."""


def arm(name: str) -> Arm:
    """Return a new arm; a BadUseError lists the choices."""
    check(name)
    if name == MEMORY:
        return Memory()
    if name == CACHE_POOL:
        return OfReader(_Pooled)
    return DataLoader(LOADINGS[name]) if name in LOADINGS else OfReader(reader_class(name))
