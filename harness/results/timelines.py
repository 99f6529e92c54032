"""Timelines kept beside asv's results: the newest of each reader, workload, commit and environment."""

from pathlib import Path
from typing import Any

from harness.results.records import OfCommit, beside
from harness.timeline.model import Timeline

SCHEMA = 1

BATCH_READ = "training batch"
"""The `TimelineRecord.read` of a training loop's first batch, to which the page of training leads."""

SUFFIX = ".timeline"  # asv reads every *.json below its results directory


class TimelineRecord(OfCommit, frozen=True, kw_only=True):
    """A valid timeline, and what it was recorded of."""

    read: str
    """The benchmark's name of the workload, e.g. ``one shard``."""
    timeline: Timeline


def of(conf: Any, folder: Path) -> list[TimelineRecord]:
    """Return the timelines of a loaded asv configuration by commit; its relative paths start at `folder`.

    Raises
    ------
    MeasurementError
        One is damaged.
    """
    return beside(conf, folder, f"timelines/*{SUFFIX}", TimelineRecord, SCHEMA)
