"""One measurement at a time where a target's counters cannot tell two clients apart."""

import contextlib

from harness.store.lock import MeasurementLock
from harness.targets.target import EMBEDDED, Target


def measurement_lock(target: Target) -> contextlib.AbstractContextManager[object]:
    """Return the right to measure at `target`, held from now until its exit: nothing to hold but on the embedded store.

    A thread that has it already (as with every `Probe`) gets it again.
    """
    return MeasurementLock() if target.name == EMBEDDED else contextlib.nullcontext()
