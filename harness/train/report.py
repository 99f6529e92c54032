"""What ``zcb train`` says of each arm: version 1 of its JSON (docs/training.md), and the figures of its table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from harness.results.intervals import Interval, interval
from harness.train.ceiling import ceiling_of
from harness.train.names import settings

if TYPE_CHECKING:
    from harness.train.conductor import Epoch, Fed
    from harness.workload.training import Training

SCHEMA = 1

_KEEPS = 0.1
"""From which share of its bytes on an arm is said to keep data. Less shows where nothing is kept: without a step more
samples are under way at once, and some libraries fetch a chunk once for all of those that want it."""


def report(training: Training, rows: Sequence[Fed], step_ms: float, device: str | None = None) -> str:
    """Return what was measured as JSON."""
    return msgspec.json.format(msgspec.json.encode(fields(training, rows, step_ms, device)), indent=1).decode()


def fields(training: Training, rows: Sequence[Fed], step_ms: float, device: str | None = None) -> dict[str, Any]:
    """Return what was measured, in the form of its JSON.

    Parameters
    ----------
    step_ms
        Of the pause; without meaning where there is a device.
    device
        Where the step was; None is a pause.
    """
    told: dict[str, Any] = msgspec.to_builtins(
        {
            "schema": SCHEMA,
            "workload": described(training),
            "step": device or "pause",
            "step_ms": step_ms if device is None else None,
            "ceiling_samples_per_second": ceiling_of(training),
            "arms": [arm(row, step_ms) for row in rows],
        }
    )
    return told


def described(training: Training) -> dict[str, Any]:
    """Return what identifies a training workload, without its samples and their truth."""
    told: dict[str, Any] = msgspec.to_builtins(training)
    told["workloads"] = [
        {key: value for key, value in work.summary().items() if key != "reads"} for work in training.workloads
    ]
    return told


def arm(row: Fed, step_ms: float) -> dict[str, Any]:
    """Return an arm's figures: medians over its runs, of the last epoch of each; unknown is None.

    The first batch is that of each run's first epoch.
    """
    first, last = row.first, row.later
    waits = [wait for epoch in last for wait in epoch.waits]
    rates = interval(epoch.samples_per_second for epoch in last)
    fed = accelerators(row, step_ms)
    return {
        "arm": row.arm,
        "versions": row.versions,
        "settings": settings(row.arm),
        "runs": len(last),
        "samples_per_second": None if rates is None else rates.median,
        "samples_per_second_interval": _ends(rates),
        "samples_per_second_without_step": _median(row.unpaused, lambda epoch: epoch.samples_per_second),
        "array_bytes_per_second": _median(last, lambda epoch: epoch.tensor_bytes / epoch.seconds),
        "utilisation": _median(last, lambda epoch: epoch.utilisation),
        "utilisation_by_events": _median(last, lambda epoch: epoch.utilisation_by_events),
        "step_seconds": _percentile([step for epoch in last for step in epoch.steps], 50),
        "by_step": _by_step(row, step_ms),
        "first_batch_seconds": _median(first, lambda epoch: epoch.first_batch_seconds),
        **{f"wait_p{share}_seconds": _percentile(waits, share) for share in (50, 95, 99)},
        "requests_per_sample": _median(last, lambda epoch: _each(epoch, epoch.requests)),
        "index_requests_per_sample": _median(last, lambda epoch: _each(epoch, epoch.index_requests)),
        "fetched_bytes_per_sample": _median(last, lambda epoch: _each(epoch, epoch.fetched_bytes)),
        "kept_share": kept_share(row),
        "reread_kept_share": reread_kept_share(row),
        "keeps_data": keeps_data(row),
        "cpu_seconds_per_1000_samples": _median(last, lambda epoch: _each(epoch, 1000 * epoch.cpu_seconds)),
        "peak_rss_bytes": max((epoch.peak_rss_bytes for epoch in row.epochs), default=None),
        "epochs": row.epochs,
        "accelerators_fed": None if fed is None else fed.median,
        "accelerators_fed_interval": _ends(fed),
        "accelerators_fed_by_run": _by_run(row, step_ms),
        "verified": True if row.epochs else None,
        "na": row.na,
        "error": row.error,
    }


def kept_share(row: Fed) -> float | None:
    """Return which part of a sample's bytes the last epoch of a run did not fetch, compared with its first one.

    The epochs have other samples, so that it is not 0 to the byte where nothing is kept.
    """
    first, last = _fetched(row.first), _fetched(row.later)
    return None if first is None or last is None or first == 0 else max(0.0, 1 - last / first)


def reread_kept_share(row: Fed) -> float | None:
    """Return which part of the last epoch's bytes was not fetched when its samples were read again, without a step.

    Above 0 something was kept from one read to the next: chunks, or the indexes of shards.
    """
    first, last, again = _fetched(row.first), _fetched(row.later), _fetched(row.unpaused)
    if first is None or last is None or again is None or first == 0:
        return None
    return 1.0 if last == 0 else max(0.0, 1 - again / last)


def keeps_data(row: Fed) -> bool:
    """Return whether the arm fetched less of what it had read before."""
    return (reread_kept_share(row) or 0.0) > _KEEPS


def _fetched(epochs: Sequence[Epoch]) -> float | None:
    return _median(epochs, lambda one: _each(one, one.fetched_bytes))


def _by_step(row: Fed, step_ms: float) -> list[dict[str, Any]]:
    """Return what the arm fed to each step there was, the shortest first."""
    steps = {**row.at_steps, step_ms: row.later} if step_ms else row.at_steps
    return [
        {
            "step_ms": step,
            "samples_per_second": _median(epochs, lambda epoch: epoch.samples_per_second),
            "utilisation": _median(epochs, lambda epoch: epoch.utilisation),
        }
        for step, epochs in sorted(steps.items())
        if epochs
    ]


def accelerators(row: Fed, step_ms: float) -> Interval | None:
    """Return how many accelerators with a step of `step_ms` an arm keeps fed: the step over the shortest one."""
    return interval(None if step is None else step_ms / 1e3 / step for step in row.shortest_step) if step_ms else None


def _by_run(row: Fed, step_ms: float) -> list[float | None]:
    """Return the same of each run, by which one sees whether it repeats."""
    return [step_ms / 1e3 / step if step else None for step in row.shortest_step]


def _each(epoch: Epoch, total: float | None) -> float | None:
    return None if total is None else total / epoch.fetched_samples


def _median(epochs: Sequence[Epoch], of: Callable[[Epoch], float | None]) -> float | None:
    known = [value for epoch in epochs if (value := of(epoch)) is not None]
    return statistics.median(known) if known else None


def _percentile(values: Sequence[float], share: int) -> float | None:
    return float(np.percentile(values, share)) if values else None


def _ends(found: Interval | None) -> tuple[float, float] | None:
    return (found.low, found.high) if found is not None and found.sure else None
