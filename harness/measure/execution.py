"""One execution of a workload by a worker's process, with the counters around it."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.measure.evidence import Probe, make_sample
from harness.measure.process import WorkerProcess, told, verified
from harness.readers import reader_class
from harness.results.sample import Sample, Timed
from harness.workload.model import Workload

OPEN_SECONDS = 120.0
"""How long a worker may take to open a workload."""

_SECONDS_PER_GIB = 120.0
"""A turn slower than this (plus a constant) hangs rather than reads."""
_TURN_SECONDS = 60.0

_FIRST_TRIAL = 2**32
"""The round whose draws of service times the first trial meets; each later one meets the next round's. No measured
round has so high a number."""


@dataclass(frozen=True)
class Candidate:
    """One way to take samples: a reader's worker, and the variant that it is told to use."""

    reader: str
    variant: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.reader, self.variant)))


def turn_deadline(workload: Workload) -> float:
    """Return the seconds after which one execution of a workload counts as hanging."""
    return _TURN_SECONDS + _SECONDS_PER_GIB * workload.array_bytes / 2**30


def asked(candidate: Candidate, *, discard: bool = False) -> dict[str, Any]:
    """Return the request for an execution; a discarded one warms up, and is neither verified nor reported."""
    return {"op": "sample", "variant": candidate.variant, "discard": discard}


def warm_up(worker: WorkerProcess, candidate: Candidate, workload: Workload, deadline: float | None = None) -> None:
    """Execute once without counting, verifying or reporting it."""
    worker.require(asked(candidate, discard=True), timeout=deadline or turn_deadline(workload))


def executed(
    worker: WorkerProcess,
    candidate: Candidate,
    workload: Workload,
    probe: Probe,
    *,
    deadline: float | None = None,
    with_faults: bool = False,
) -> Sample:
    """Execute once and return the sample; the arrays were compared with the truth, the network limit's bytes counted.

    Parameters
    ----------
    worker
        The process of the candidate's reader, which has opened the workload.
    workload
        What it reads.
    deadline
        Seconds after which the execution counts as hanging; None is `turn_deadline`.
    with_faults
        As in `harness.measure.evidence.make_sample`.

    Raises
    ------
    MeasurementError
        The worker failed, hung, or returned what is not the truth.
    """
    probe.begin()
    answer = worker.require(asked(candidate), timeout=deadline or turn_deadline(workload))
    decodes = reader_class(candidate.reader).competes_for is None
    return make_sample(
        workload,
        verified(answer) if decodes else told(answer, "timed", Timed),
        probe.end(),
        counts_alone=reader_class(candidate.reader).counts_alone(workload.target),
        with_faults=with_faults,
    )


def fastest(
    candidates: Sequence[Candidate],
    seconds_of: Callable[[Candidate], float | None],
    probe: Probe,
    *,
    trials: int,
    patience: float,
) -> Candidate | None:
    """Return the candidate with the lowest median over alternating trials, or None when all failed.

    Parameters
    ----------
    candidates
        Those that compete; one alone is not tried.
    seconds_of
        Executes a candidate and returns its seconds, or None where it failed, which ends its trials.
    probe
        Counts the executions. All candidates of a trial meet the same service times, and each trial others: which plan
        is the fastest by a single draw says little where these have a tail.
    trials
        Executions of each.
    patience
        Seconds after which no further trials begin: one is enough of slow candidates.
    """
    if len(candidates) == 1:
        return candidates[0]
    seconds: dict[Candidate, list[float]] = {candidate: [] for candidate in candidates}
    begin = time.monotonic()
    for trial in range(trials):
        if trial and time.monotonic() - begin >= patience:
            break
        with probe.in_round(_FIRST_TRIAL + trial):
            took = {candidate: seconds_of(candidate) for candidate in seconds}
        seconds = {candidate: [*seconds[candidate], one] for candidate, one in took.items() if one is not None}
    return min(seconds, key=lambda candidate: statistics.median(seconds[candidate]), default=None)
