"""An arm as a process of its own: JSON lines on stdin and stdout, as a reader's worker speaks them.

``python -m harness.train.worker ARM`` runs in the environment under test: ``load`` with a training workload, ``epoch``
with its number and the step's milliseconds, ``close``.
"""

import gc
import sys
from collections.abc import Callable, Mapping
from typing import Any, override

from harness.machine.exit import run_then_exit
from harness.readers.worker import Answering, serve
from harness.train import loop
from harness.train.arms import arm
from harness.train.batches import Arm
from harness.workload import training as trainings


class ArmWorker(Answering):
    """Carries out what is asked for on one arm."""

    def __init__(self, make: Callable[[], Arm]) -> None:
        self._make = make
        self._arm: Arm | None = None
        self._training: trainings.Training | None = None

    @override
    def operations(self) -> Mapping[str, Callable[..., dict[str, Any]]]:
        return {"load": self._load, "epoch": self._epoch, "close": self._close}

    def _load(self, training: dict[str, Any]) -> dict[str, Any]:
        self._close()
        decoded, made = trainings.decode(training), self._make()
        made.open(decoded)
        self._training, self._arm = decoded, made
        return {"versions": made.versions()}

    def _epoch(self, number: int, step_ms: float) -> dict[str, Any]:
        """Feed an epoch to a step, and compare every sample after it."""
        if self._arm is None or self._training is None:
            raise RuntimeError("epoch before load")
        gc.collect()
        looped, batches = loop.feed(self._arm.epoch(number), loop.pause(step_ms / 1e3), self._arm.lead)
        loop.check(self._training, number, batches)
        return {"looped": looped}

    def _close(self) -> dict[str, Any]:
        if self._arm is not None:
            self._arm.close()
        self._arm = self._training = None
        return {"closed": True}


if __name__ == "__main__":
    run_then_exit(lambda: serve(ArmWorker(lambda: arm(sys.argv[1]))))
