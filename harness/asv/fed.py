"""What arms feed a training loop, under asv: one pass per commit and environment, whose figures asv looks up."""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from harness.asv.tracked import (
    Cell,
    Key,
    LookedUp,
    chosen,
    environment_plan,
    environment_target,
    show_progress_in_asv,
    tracked,
)
from harness.errors import ZcbError
from harness.train import names

if TYPE_CHECKING:
    from harness.train.conductor import Fed
    from harness.workload.model import Workload

_log = logging.getLogger(__name__)

STEP_MS = 20.0
"""The step that asv's rows are of."""

_OTHER_STEPS_MS = (5.0, 80.0)
"""Steps that the page shows beside it."""

_CROP = (4, 128, 128)
_BATCHES, _BATCH = 12, 8  # twice the batches that may be ready with the first one, five, are the fewest
_DIGITS = 6

ARMS = [names.MEMORY, *names.of_readers()]
"""The arms with rows; torch is not among what asv installs."""


class FedMetric(NamedTuple):
    """What asv tracks of an arm, a value per run; lower is better."""

    key: str
    unit: str
    meaning: str
    of: Callable[["Fed"], list[float | None]]


METRICS = (
    FedMetric(
        "seconds_per_1000_samples",
        "seconds",
        "Time per 1,000 samples without a step: as many as the arm makes.",
        lambda fed: [1000 / epoch.samples_per_second for epoch in fed.unpaused],
    ),
    FedMetric(
        "waiting",
        "share of the loop",
        f"Share of the loop in which a step of {STEP_MS:g} ms waited for its batch, in the second epoch.",
        lambda fed: [1 - epoch.utilisation for epoch in fed.later],
    ),
    FedMetric(
        "first_batch_seconds",
        "seconds",
        "From asking for the first epoch to its first batch.",
        lambda fed: [epoch.first_batch_seconds for epoch in fed.first],
    ),
    FedMetric(
        "requests_per_sample",
        "requests",
        "Requests of the second epoch per sample.",
        lambda fed: [None if e.requests is None else e.requests / e.fetched_samples for e in fed.later],
    ),
    FedMetric(
        "cpu_seconds_per_1000_samples",
        "seconds",
        "CPU time of all processes of the arm per 1,000 samples, in the second epoch.",
        lambda fed: [1000 * epoch.cpu_seconds / epoch.fetched_samples for epoch in fed.later],
    ),
)
"""What the class `FedLoop` tracks."""


def run_pass(arms: Iterable[str]) -> dict[Key, Cell]:
    """Let every arm feed a training loop on the data set `small` and return ``(arm,) -> cell``.

    Of each reader the first batch is recorded too, for the page.
    """
    from harness.machine.lifeline import die_with_parent
    from harness.measure.recording import write_training
    from harness.targets.resolve import resolve
    from harness.train import report
    from harness.train.conductor import Plan, train
    from harness.workload import training

    die_with_parent()
    show_progress_in_asv()
    try:
        target = resolve(environment_target())
        plan = environment_plan(target)
        kept = {names.MEMORY, *chosen(arms)}  # the loop's own ceiling is no reader that could be left out
        listed = training.create(target, ["small"], crop=_CROP, batches=_BATCHES, batch=_BATCH)
        rows = train(
            listed,
            [arm for arm in arms if arm in kept],
            Plan(
                step_ms=STEP_MS,
                other_steps_ms=_OTHER_STEPS_MS,
                runs=plan.samples,
                budget_seconds=plan.budget_seconds,
                feeds=False,
            ),
        )
        write_training(listed.target.identity, listed.label, report.fields(listed, rows, STEP_MS))
        record_a_batch([row.arm for row in rows if row.epochs and row.arm != names.MEMORY], listed.first_batch())
    except ZcbError as error:
        raise SystemExit(f"zcb: {error}") from error
    return {(row.arm,): _cell(row) for row in rows}


def record_a_batch(readers: Iterable[str], batch: "Workload") -> None:
    """Keep a timeline of a batch by each reader that can be recorded; the others have none."""
    from harness.errors import MeasurementError, UnsupportedError
    from harness.measure.recording import write_timeline
    from harness.measure.timelines import record_with_wire
    from harness.results.timelines import BATCH_READ

    for reader in readers:
        try:
            timeline = record_with_wire(reader, batch, pairs=1)
        except (UnsupportedError, MeasurementError) as reason:
            _log.info(f"no timeline of a batch by {reader}: {reason}")
            continue
        if timeline.valid.ok:
            write_timeline(BATCH_READ, timeline)
        else:
            _log.info(f"the timeline of a batch by {reader} is not valid: {'; '.join(timeline.valid.failures)}")


def _cell(row: "Fed") -> Cell:
    if row.na is not None:
        return {"na": row.na}
    if row.error is not None:
        return {"error": row.error}
    found: Cell = {}
    for metric in METRICS:
        values = metric.of(row)
        if None not in values:
            found[metric.key] = [round(value, _DIGITS) for value in values if value is not None]
    return found


class FedLoop(LookedUp):
    """What arms feed, as asv's ``track_`` methods."""


for _metric in METRICS:
    setattr(FedLoop, f"track_{_metric.key}", tracked(_metric.key, _metric.unit, _metric.meaning))
