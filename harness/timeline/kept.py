"""Timelines kept beside asv's results: the newest of each reader, workload, commit and environment."""

import datetime
import os
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import MeasurementError
from harness.paths import write_atomically
from harness.records import FOLDER_VARIABLE, Commits, build_name, settings
from harness.timeline.model import Timeline

SCHEMA = 1

_SUFFIX = ".timeline"  # asv reads every *.json below its results directory


class TimelineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A valid timeline, and what it was recorded of."""

    schema: int
    commit: str
    env_name: str
    settings: dict[str, str]
    read: str
    """The benchmark's name of the workload, e.g. ``one shard``."""
    started: str
    timeline: Timeline
    commit_name: str = ""
    date_ms: int = 0


def write(read: str, timeline: Timeline) -> Path | None:
    """Keep a timeline beside the pass records; outside asv, which names their folder, nothing is kept."""
    passes = os.environ.get(FOLDER_VARIABLE)
    if not passes:
        return None
    commit, env_name = os.environ.get("ASV_COMMIT", ""), os.environ.get("ASV_ENV_NAME", "")
    record = TimelineRecord(
        schema=SCHEMA,
        commit=commit,
        env_name=env_name,
        settings=settings(),
        read=read,
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        timeline=timeline,
    )
    name = f"{build_name(commit, env_name)}-{read.replace(' ', '_')}-{timeline.reader}{_SUFFIX}"
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
    commits = Commits(conf, folder)
    named = [
        msgspec.structs.replace(record, commit_name=commits.name(record.commit), date_ms=commits.date_ms(record.commit))
        for record in map(_read, paths)
    ]
    return sorted(named, key=lambda record: (record.date_ms, record.env_name, record.started))


def _read(path: Path) -> TimelineRecord:
    try:
        record = msgspec.json.decode(path.read_bytes(), type=TimelineRecord)
    except (OSError, msgspec.MsgspecError) as error:
        raise MeasurementError(f"the timeline {path} cannot be read: {error}") from error
    if record.schema != SCHEMA:
        raise MeasurementError(f"the timeline {path} has schema {record.schema}; this version reads {SCHEMA}")
    return record
