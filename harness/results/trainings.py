"""What arms fed, kept beside asv's results: the newest of each commit and environment."""

from pathlib import Path
from typing import Any

from harness.results.records import OfCommit, beside

SCHEMA = 1

SUFFIX = ".training"  # asv reads every *.json below its results directory


class TrainingRecord(OfCommit, frozen=True, kw_only=True):
    """A training workload, and what each arm fed of it."""

    target: str
    label: str
    """The workload's, for people."""
    report: dict[str, Any]
    """As ``zcb train --json`` prints it."""


def of(conf: Any, folder: Path) -> list[TrainingRecord]:
    """Return the records of a loaded asv configuration by commit; its relative paths start at `folder`.

    Raises
    ------
    MeasurementError
        One is damaged.
    """
    return beside(conf, folder, f"trainings/*{SUFFIX}", TrainingRecord, SCHEMA)
