"""An arm as a process of its own: JSON lines on stdin and stdout, as a reader's worker speaks them.

``python -m harness.train.worker ARM`` runs in the environment under test: ``load`` with a training workload, ``epoch``
with its number and the step's milliseconds, or the ``device`` on which it is, ``close``.
"""

import gc
import sys
from collections.abc import Callable, Mapping
from typing import Any, override

import msgspec

from harness.machine.exit import run_then_exit
from harness.readers.worker import Answering, serve
from harness.train import loop
from harness.train.accelerator import DeviceStep
from harness.train.arms import arm
from harness.train.batches import Arm, Batch
from harness.workload import training as trainings


class ArmWorker(Answering):
    """Carries out what is asked for on one arm."""

    def __init__(self, make: Callable[[], Arm]) -> None:
        self._make = make
        self._arm: Arm | None = None
        self._training: trainings.Training | None = None
        self._device_step: DeviceStep | None = None

    @override
    def operations(self) -> Mapping[str, Callable[..., dict[str, Any]]]:
        return {"load": self._load, "epoch": self._epoch, "close": self._close}

    def _load(self, training: dict[str, Any]) -> dict[str, Any]:
        self._close()
        decoded, made = trainings.decode(training), self._make()
        made.open(decoded)
        self._training, self._arm = decoded, made
        return {"versions": made.versions()}

    def _epoch(self, number: int, step_ms: float, device: str | None = None) -> dict[str, Any]:
        """Feed an epoch to a step, of so many ms or on a device, and compare every sample after it."""
        if self._arm is None or self._training is None:
            raise RuntimeError("epoch before load")
        gc.collect()
        if device is None:
            looped, batches = loop.feed(self._arm.epoch(number), loop.pause(step_ms / 1e3), self._arm.lead)
        else:
            looped, batches = self._on_device(self._arm, number, device)
        loop.check(self._training, number, batches)
        return {"looped": looped}

    def _on_device(self, arm: Arm, number: int, device: str) -> tuple[loop.Looped, list[Batch]]:
        if self._device_step is None:
            self._device_step = DeviceStep(device)
        step = self._device_step
        step.device_seconds.clear()
        looped, batches = loop.feed(arm.epoch(number), step, arm.lead, stage=step.stage)
        by_events = step.device_seconds[arm.lead :]
        return msgspec.structs.replace(looped, device_steps=by_events or None), batches

    def _close(self) -> dict[str, Any]:
        if self._arm is not None:
            self._arm.close()
        self._arm = self._training = self._device_step = None
        return {"closed": True}


if __name__ == "__main__":
    run_then_exit(lambda: serve(ArmWorker(lambda: arm(sys.argv[1]))))
