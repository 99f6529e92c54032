"""The loop that consumes batches: how long each step waited, and whether every sample was the right one."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import google_crc32c
import msgspec
import numpy as np

from harness.errors import MeasurementError, WrongDataError
from harness.train.tensors import restored
from harness.workload.truth import known_reads

if TYPE_CHECKING:
    from collections.abc import Generator

    from harness.train.batches import Batch
    from harness.workload.training import Training

Step = Callable[["Batch"], None]
"""What consumes a batch."""

_SLEEPS = 9


class Looped(msgspec.Struct, frozen=True, kw_only=True):
    """What a stopwatch in the consumer saw of an epoch, in seconds.

    Its loop begins when the batches are used up that may have been under way or ready with the first one: those that
    come after it come as fast as the arm makes them.
    """

    first_batch: float
    """From asking for the epoch to having its first batch."""
    waits: list[float]
    """Before each batch of the loop."""
    steps: list[float]
    """Of each batch of the loop."""
    began_ns: int
    """When the loop began, by this machine's monotonic clock; each wait is followed by its step, without a gap."""
    device_steps: list[float] | None = None
    """Of each batch of the loop, by events on the device; None where the step used none."""

    @property
    def seconds(self) -> float:
        """Of the loop: waits and steps."""
        return sum(self.waits) + sum(self.steps)


def pause(seconds: float) -> Step:
    """Return a step that stands for an accelerator's: it takes so long, and leaves the cores alone.

    It sleeps for less, by what this machine's timer is late, and gives its core away over and over for the rest.
    """
    late = _lateness() if seconds else 0.0

    def step(_: Batch) -> None:
        end = time.monotonic() + seconds
        if seconds > late:
            time.sleep(seconds - late)
        while time.monotonic() < end:
            time.sleep(0)  # lets other threads have the interpreter's lock

    return step


@functools.cache
def _lateness() -> float:
    """Return by how many seconds a short sleep lasts longer than asked, where nothing else runs: the median."""
    asked = 5e-3
    lasted = []
    for _ in range(_SLEEPS):
        began = time.monotonic()
        time.sleep(asked)
        lasted.append(time.monotonic() - began)
    return statistics.median(lasted) - asked


def feed(
    batches: Generator[Batch], step: Step, lead: int = 1, *, stage: Step | None = None
) -> tuple[Looped, list[Batch]]:
    """Consume an epoch and return what the stopwatch saw with the batches, which are kept to be checked.

    What makes the batches is ended, however the loop ends.

    Parameters
    ----------
    lead
        Batches before the loop begins (`Arm.lead`).
    stage
        Makes a batch ready for the step; what that takes is waited for.
    """
    kept: list[Batch] = []
    waits: list[float] = []
    steps: list[float] = []
    with closing(batches):
        ends = [time.monotonic()]
        for batch in batches:
            if stage is not None:
                stage(batch)
            there = time.monotonic()
            waits.append(there - ends[-1])
            step(batch)
            ends.append(time.monotonic())
            steps.append(ends[-1] - there)
            kept.append(batch)
    looped = Looped(
        first_batch=waits[0] if waits else 0.0,
        waits=waits[lead:],
        steps=steps[lead:],
        began_ns=round(1e9 * ends[min(lead, len(waits))]),
    )
    return looped, kept


def check(training: Training, epoch: int, batches: Sequence[Batch]) -> None:
    """Compare every sample of an epoch with the truth: none may be wrong, missing, twice or out of order.

    Raises
    ------
    WrongDataError
        Names the first sample that is not the listed one.
    MeasurementError
        More or fewer batches than listed.
    """
    if len(batches) != training.batches:
        raise MeasurementError(f"{len(batches)} batches came, {training.batches} are listed")
    for dataset, work in enumerate(training.workloads):
        known, dtype = known_reads(work.truth), np.dtype(work.array.dtype)
        for number, (numbers, batch) in enumerate(zip(training.numbers(epoch), batches, strict=True)):
            tensor = batch[dataset]
            if len(tensor) != len(numbers):
                raise MeasurementError(f"batch {number} has {len(tensor)} samples, {len(numbers)} are listed")
            for place, sample in enumerate(numbers):
                if google_crc32c.value(restored(tensor[place], dtype).tobytes()) != known[sample]:
                    raise WrongDataError(
                        f"sample {place} of batch {number} of epoch {epoch} is not the crop of {work.array.key} "
                        "that the workload lists there"
                    )
