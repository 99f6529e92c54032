"""Timelines kept beside asv's results: the newest of each reader, workload, commit and environment."""

import datetime
import os
from pathlib import Path
from typing import Any

import msgspec

from harness.paths import write_atomically
from harness.records import FOLDER_VARIABLE, Commits, OfCommit, decode, this_build
from harness.timeline.model import Timeline

SCHEMA = 1

_SUFFIX = ".timeline"  # asv reads every *.json below its results directory


class TimelineRecord(OfCommit, frozen=True, kw_only=True):
    """A valid timeline, and what it was recorded of."""

    read: str
    """The benchmark's name of the workload, e.g. ``one shard``."""
    timeline: Timeline


def write(read: str, timeline: Timeline) -> Path | None:
    """Keep a timeline beside the pass records; outside asv, which names their folder, nothing is kept."""
    passes = os.environ.get(FOLDER_VARIABLE)
    if not passes:
        return None
    build = this_build()
    record = TimelineRecord(
        schema=SCHEMA,
        commit=build.commit,
        env_name=build.env_name,
        settings=build.settings,
        read=read,
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        timeline=timeline,
    )
    name = f"{build.name}-{read.replace(' ', '_')}-{timeline.reader}{_SUFFIX}"
    path = Path(passes).parent / "timelines" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.encode(record) + b"\n")
    return path


def of(conf: Any, folder: Path) -> list[TimelineRecord]:
    """Return the timelines of a loaded asv configuration by commit; its relative paths start at `folder`.

    Raises
    ------
    MeasurementError
        One is damaged.
    """
    paths = sorted((folder / conf.results_dir).glob(f"*/timelines/*{_SUFFIX}"))
    named = Commits(conf, folder).named(decode(path, TimelineRecord, SCHEMA) for path in paths)
    return sorted(named, key=lambda record: (record.date_ms, record.env_name, record.started))
