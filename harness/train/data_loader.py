"""Arms of torch's ``DataLoader``: what most people feed a training loop with, and how they write it.

A map-style data set reads one sample after another in each of its workers; a worker makes whole batches. Workers are
processes, which `spawn` starts anew and `forkserver` forks off a process without threads: zarr-python's event loop and
obstore's runtime do not survive a plain fork.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast, override

import msgspec
import numpy as np

from harness.errors import UnsupportedError
from harness.readers import reader_class
from harness.train.batches import Arm, Batch
from harness.train.names import Loading
from harness.train.tensors import process
from harness.workload import training as trainings

if TYPE_CHECKING:
    from harness.readers.base import Reader
    from harness.workload.model import Workload
    from harness.workload.training import Training

_READER = "zarr-python+obstore"


class Crops:
    """A map-style data set of the samples of a training workload; each process opens the arrays when it first reads."""

    def __init__(self, training: Training) -> None:
        self._encoded = msgspec.json.encode(training)
        self._readers: list[Reader] | None = None

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        """Return the tensors of a sample, one for each data set."""
        import torch

        if self._readers is None:
            self._readers = [_opened(work) for work in trainings.decode(self._encoded).workloads]
        found = []
        for reader in self._readers:
            crop = reader.read_one(number)
            tensor = np.empty(crop.shape, np.float32)
            process(crop, tensor)
            found.append(torch.from_numpy(tensor))
        return tuple(found)

    def close(self) -> None:
        """Release what this process opened."""
        for reader in self._readers or ():
            reader.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave readers behind: another process opens its own."""
        return {"_encoded": self._encoded, "_readers": None}


def _opened(work: Workload) -> Reader:
    reader = reader_class(_READER)()
    reader.open(work)
    return reader


class Listed:
    """Hands out the samples of the epoch that is asked for, in their order."""

    def __init__(self) -> None:
        self.numbers: Sequence[int] = ()

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


class DataLoader(Arm):
    """torch's ``DataLoader`` over zarr-python and obstore."""

    def __init__(self, how: Loading) -> None:
        self._how = how

    @override
    def open(self, training: Training) -> None:
        try:
            import torch.utils.data
        except (ImportError, OSError, ValueError) as error:  # it loads CUDA's libraries in ways of its own
            raise UnsupportedError(f"torch cannot be imported: {error}") from error
        if training.index == "warm":
            raise UnsupportedError("each of its processes would keep indexes of its own")
        self._training = training
        self._crops, self._listed = Crops(training), Listed()
        workers = self._how.workers
        several: dict[str, Any] = {}
        if workers:
            ahead = max(1, math.ceil(training.ahead / workers))
            self.begin_with(workers * ahead, training)
            several = {
                "multiprocessing_context": multiprocessing.get_context(self._how.start),
                "prefetch_factor": ahead,
                "persistent_workers": True,
            }
        self._loader: Any = torch.utils.data.DataLoader(
            cast("Any", self._crops),  # it has what a map-style data set needs
            batch_size=training.batch,
            sampler=self._listed,
            num_workers=workers,
            **several,
        )

    @override
    def epoch(self, number: int) -> Generator[Batch]:
        self._listed.numbers = [sample for numbers in self._training.numbers(number) for sample in numbers]
        for batch in self._loader:
            yield tuple(tensor.numpy() for tensor in batch)

    @override
    def versions(self) -> dict[str, str]:
        import torch

        return {"torch": str(torch.__version__), **reader_class(_READER).versions()}

    @override
    def close(self) -> None:
        self._crops.close()
        del self._loader  # ends its workers
