"""The page "Training": what each arm fed to a training loop, at each version, with the loop of one epoch drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.results import timelines, trainings
from harness.results.timelines import BATCH_READ, TimelineRecord
from harness.results.trainings import TrainingRecord
from harness.site.epochs import of_epoch
from harness.site.page import Contents, Page
from harness.site.pages.timelines import address


def _contents(conf: Any) -> Contents | None:
    found = trainings.of(conf, Path())
    return contents(found, timelines.of(conf, Path())) if found else None


def contents(found: Sequence[TrainingRecord], recorded: Sequence[TimelineRecord] = ()) -> Contents:
    """Return what the page shows: of several records of a commit at a place the last, newest commit first.

    Parameters
    ----------
    recorded
        Timelines, among which those of a batch are.
    """
    newest = {(_place(record), record.commit, record.env_name): record for record in found}
    shown = list(reversed(newest.values()))
    drawn = {_picture(at, arm["arm"]): arm for at, record in enumerate(shown) for arm in record.report["arms"]}
    epochs = {name: (arm["arm"], epoch) for name, arm in drawn.items() if (epoch := drawn_epoch(arm)) is not None}
    return Contents(
        data={"trainings": [_shown(at, record, recorded) for at, record in enumerate(shown)]},
        pictures={
            name: of_epoch(arm, epoch["waits"], epoch["steps"], epoch["in_flight"], name=f"picture{number}")
            for number, (name, (arm, epoch)) in enumerate(epochs.items())
        },
    )


def _place(record: TrainingRecord) -> str:
    return " ".join(filter(None, (record.target, record.settings.get("ZCB_PRESET", ""))))


def _picture(at: int, arm: str) -> str:
    """Return the name of the picture of an arm in the section `at`."""
    return f"epoch{at}_{arm}"


def _shown(at: int, record: TrainingRecord, recorded: Sequence[TimelineRecord]) -> dict[str, Any]:
    told = record.report
    rates = [arm["samples_per_second_without_step"] or 0.0 for arm in told["arms"] if arm["arm"] != "memory"]
    return {
        "version": record.commit_name or "the installed zarr",
        "place": _place(record),
        "label": record.label,
        "index": told["workload"]["index"],
        "ahead": told["workload"]["ahead"],
        "step_ms": told["step_ms"],
        "steps_ms": sorted({one["step_ms"] for arm in told["arms"] for one in _steps(told, arm)}),
        "started": record.started,
        "arms": [_arm(told, arm) | {"timeline": _timeline(record, arm["arm"], recorded)} for arm in told["arms"]],
        "pictures": [_picture(at, arm["arm"]) for arm in told["arms"]],
        "fastest": max(rates, default=0.0),
        "ceiling": told.get("ceiling_samples_per_second"),
    }


def _arm(told: Mapping[str, Any], arm: Mapping[str, Any]) -> dict[str, Any]:
    """Return an arm with what it fed to each step, by the step's ms."""
    return {"keeps_data": False, **arm, "at_step": {one["step_ms"]: one for one in _steps(told, arm)}}


def _steps(told: Mapping[str, Any], arm: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what an arm fed to each step; records of before have one step and no list of them."""
    found: list[Mapping[str, Any]] = arm.get("by_step", [{**arm, "step_ms": told["step_ms"]}] if arm["epochs"] else [])
    return found


def drawn_epoch(arm: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the epoch whose requests were kept; of targets that do not tell, the last; None without steps."""
    epochs: list[Mapping[str, Any]] = [epoch for epoch in arm["epochs"] if epoch.get("steps")]
    return next((epoch for epoch in epochs if epoch["in_flight"] is not None), epochs[-1] if epochs else None)


def _timeline(record: TrainingRecord, arm: str, recorded: Sequence[TimelineRecord]) -> str | None:
    """Return the address of the newest timeline of a batch by this arm, at the same place and of the same build."""
    same = [
        one
        for one in recorded
        if one.read == BATCH_READ
        and (one.timeline.reader, one.timeline.target) == (arm, record.target)
        and (one.commit, one.env_name, one.settings) == (record.commit, record.env_name, record.settings)
    ]
    return address(same[-1]) if same else None


PAGE = Page(
    folder=Path(__file__).parent,
    title="Training",
    heading="How well a training loop is fed",
    contents=_contents,
)
