"""The page "Training": what each arm fed to a training loop, at each version, with the waits of an epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.results import trainings
from harness.results.trainings import TrainingRecord
from harness.site.page import Contents, Page


def _contents(conf: Any) -> Contents | None:
    found = trainings.of(conf, Path())
    return contents(found) if found else None


def contents(found: Sequence[TrainingRecord]) -> Contents:
    """Return what the page shows: of several records of a commit at a place the last, newest commit first."""
    newest = {(_place(record), record.commit, record.env_name): record for record in found}
    return Contents(data={"trainings": [_shown(record) for record in reversed(newest.values())]})


def _place(record: TrainingRecord) -> str:
    return " ".join(filter(None, (record.target, record.settings.get("ZCB_PRESET", ""))))


def _shown(record: TrainingRecord) -> dict[str, Any]:
    told = record.report
    rates = [arm["samples_per_second_without_step"] or 0.0 for arm in told["arms"] if arm["arm"] != "memory"]
    waits = [wait for arm in told["arms"] for wait in _waits(arm)]
    return {
        "version": record.commit_name or "the installed zarr",
        "place": _place(record),
        "label": record.label,
        "index": told["workload"]["index"],
        "ahead": told["workload"]["ahead"],
        "step_ms": told["step_ms"],
        "started": record.started,
        "arms": told["arms"],
        "fastest": max(rates, default=0.0),
        "longest_wait": max(waits, default=0.0),
    }


def _waits(arm: Mapping[str, Any]) -> list[float]:
    return arm["epochs"][-1]["waits"] if arm["epochs"] else []


PAGE = Page(
    folder=Path(__file__).parent,
    title="Training",
    heading="How well a training loop is fed",
    contents=_contents,
)
