"""Arms: ways to feed batches. Each has a name, and makes the batches of an epoch in order.

An arm reads samples ahead of the step: `Training.ahead` batches beside the one that is wanted, and as many samples at
once as the workload's reads say. What it yields is newly allocated.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, override

import numpy as np

from harness.errors import unknown
from harness.readers import all_readers, benchmarked, reader_class
from harness.readers.base import Reader
from harness.results.sample import NETWORK_LIMIT
from harness.train.tensors import Crop, Tensor, process
from harness.workload.patterns import selection_shape

if TYPE_CHECKING:
    from harness.workload.training import Training

Batch = tuple[Tensor, ...]
"""A tensor of ``(samples, *crop)`` for each data set."""

MEMORY = "memory"
"""The arm that feeds from RAM: the loop's own ceiling."""


class Arm(ABC):
    """A way to feed batches. Its life: `open` once, then `epoch` for each epoch in order, then `close`."""

    name: ClassVar[str] = ""

    @abstractmethod
    def open(self, training: Training) -> None:
        """Open the arrays; outside the timed part.

        Raises
        ------
        UnsupportedError
            It cannot do this; the message is the reason.
        """

    @abstractmethod
    def epoch(self, number: int) -> Generator[Batch]:
        """Yield the batches of an epoch in the listed order; closing the iterator ends what it has under way."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the libraries that decide its figures."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Release connections, threads and processes."""


class Ahead(Arm):
    """Makes batches from single crops, each read and processed by one of a number of threads."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    @abstractmethod
    def _crop(self, dataset: int, number: int) -> Crop:
        """Return the crop of a sample, called from any of the threads."""

    @override
    def open(self, training: Training) -> None:
        self._training = training
        self._threads = ThreadPoolExecutor(training.workloads[0].concurrent_reads, thread_name_prefix="samples")

    @override
    def epoch(self, number: int) -> Generator[Batch]:
        wanted = iter(self._training.numbers(number))
        under_way = deque(map(self._started, itertools.islice(wanted, self._training.ahead + 1)))
        try:
            while under_way:
                batch, samples = under_way.popleft()
                for sample in samples:
                    sample.result()
                under_way.extend(map(self._started, itertools.islice(wanted, 1)))
                yield batch
        finally:
            for _, samples in under_way:
                for sample in samples:
                    sample.cancel()

    def _started(self, numbers: Sequence[int]) -> tuple[Batch, list[Future[None]]]:
        batch = tuple(
            np.empty((len(numbers), *selection_shape(work.reads[0])), np.float32) for work in self._training.workloads
        )
        if self._threads is None:
            raise RuntimeError("epoch before open")
        return batch, [self._threads.submit(self._fill, batch, place, number) for place, number in enumerate(numbers)]

    def _fill(self, batch: Batch, place: int, number: int) -> None:
        for dataset, tensor in enumerate(batch):
            process(self._crop(dataset, number), tensor[place])

    @override
    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)


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


class Memory(Ahead):
    """Crops that lie in RAM, read before the loop: processing and batching alone are left."""

    name = MEMORY

    @override
    def open(self, training: Training) -> None:
        super().open(training)
        self._crops: list[Sequence[Any]] = []
        make = next(reader for reader in map(reader_class, _READ_CROPS_WITH) if reader.reads_one)
        for work in training.workloads:
            reader = make()
            reader.open(work)
            try:
                self._crops.append([np.array(crop) for crop in reader.read()])
            finally:
                reader.close()

    @override
    def _crop(self, dataset: int, number: int) -> Crop:
        crop: Crop = self._crops[dataset][number]
        return crop


_READ_CROPS_WITH = ("tensorstore", "zarr-python+obstore")
"""What reads the crops that the arm `MEMORY` holds, the first that is there."""


def names() -> list[str]:
    """Return the arms, in the order in which tables show them."""
    return [MEMORY, *(name for name in benchmarked() if name != NETWORK_LIMIT and all_readers()[name].reads_one)]


def arm(name: str) -> Arm:
    """Return a new arm; a BadUseError lists the choices."""
    if name not in names():
        raise unknown("arm", name, names())
    if name == MEMORY:
        return Memory()
    return OfReader(reader_class(name))


def check(name: str) -> str:
    """Return the name of an arm; a BadUseError lists the choices."""
    if name not in names():
        raise unknown("arm", name, names())
    return name
