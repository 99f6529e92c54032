"""How an arm makes the batches of an epoch, in order, from samples that it reads ahead of the step."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, override

import numpy as np

from harness.errors import UnsupportedError
from harness.train.tensors import Crop, Tensor, process
from harness.workload.patterns import selection_shape

if TYPE_CHECKING:
    from harness.workload.training import Training

Batch = tuple[Tensor, ...]
"""A tensor of ``(samples, *crop)`` for each data set."""


_FEWEST_ROUNDS = 2


def lead_of(training: Training) -> int:
    """Return how many batches an arm that reads ahead has under way or ready when the first one is there.

    They are whole waves: as many batches as samples at once make come together, and of a wave whose first batch is
    left out the others would come for nothing.
    """
    allowed = training.ahead + 1
    wave = min(math.ceil(training.workloads[0].concurrent_reads / training.batch), allowed)
    return wave * math.ceil(allowed / wave)


def too_short(training: Training, lead: int) -> str | None:
    """Return why an epoch does not show how fast batches are made, where `lead` may be there with the first; or None.

    They are no rate: while the first one waits for connections the others become ready.
    """
    fewest = _FEWEST_ROUNDS * lead
    if training.batches >= fewest:
        return None
    return (
        f"{lead} batches may be ready with the first one: an epoch of {training.batches} is too short to "
        f"see how fast it makes them: it needs {fewest}"
    )


class Arm(ABC):
    """A way to feed batches. Its life: `open` once, then `epoch` for each epoch in order, then `close`."""

    lead: int = 1
    """Batches that may be under way or ready when the first one is there, itself among them (`begin_with`)."""

    def begin_with(self, batches: int, training: Training) -> None:
        """Take note of how many batches may be there with the first one; an UnsupportedError says: most of an epoch."""
        self.lead = batches
        if (why := too_short(training, batches)) is not None:
            raise UnsupportedError(why)

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
    """Makes batches from single crops, each read and processed by one of a number of threads.

    It reads `Training.ahead` batches beside the one that is wanted, and as many samples at once as the workload's reads
    say. Batches are newly allocated. A thread of its own starts them, in order, while the consumer is in its step.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="starter")

    @abstractmethod
    def _crop(self, dataset: int, number: int) -> Crop:
        """Return the crop of a sample, called from any of the threads."""

    @override
    def open(self, training: Training) -> None:
        self.begin_with(lead_of(training), training)
        self._training = training
        self._threads = ThreadPoolExecutor(training.workloads[0].concurrent_reads, thread_name_prefix="samples")

    @override
    def epoch(self, number: int) -> Generator[Batch]:
        wanted = (self._starter.submit(self._started, numbers) for numbers in self._training.numbers(number))
        under_way = deque(itertools.islice(wanted, self._training.ahead + 1))
        try:
            while under_way:
                batch, samples = under_way.popleft().result()
                for sample in samples:
                    sample.result()
                under_way.extend(itertools.islice(wanted, 1))
                yield batch
        finally:
            for started in under_way:
                for sample in () if started.cancel() else started.result()[1]:
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
        self._starter.shutdown(cancel_futures=True)
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
