"""One measurement at a time where a target's counters cannot tell two clients apart."""

import contextlib
from collections.abc import Callable

from harness.store.lock import MeasurementLock
from harness.targets.target import EMBEDDED, Target


def measurement_lock(target: Target, say: Callable[[str], None]) -> contextlib.AbstractContextManager[object]:
    """Return the right to measure at `target`, held from now until its exit: nothing to hold but on the embedded store.

    A process that has it already (as every `Probe` does) would wait for itself.
    """
    return MeasurementLock(say) if target.name == EMBEDDED else contextlib.nullcontext()
