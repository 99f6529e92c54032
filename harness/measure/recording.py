"""Writing down what a pass measured, beside asv's own results."""

import datetime
import json
import logging
import os
import platform
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from harness.errors import MeasurementError
from harness.machine.cpu import allowed_cores, machine_cores, quota
from harness.measure.conductor import Plan, Row
from harness.measure.floor import service_of
from harness.paths import write_atomically
from harness.readers import reader_class
from harness.results import records, timelines, trainings
from harness.results.records import APPEND_VARIABLE, FOLDER_VARIABLE, VERSIONS_VARIABLE
from harness.timeline.model import Timeline

_log = logging.getLogger(__name__)

_SETTINGS = ("ZCB_TARGET", "ZCB_PRESET")


def write_pass(pattern: str, target: str, plan: Plan, rows: Sequence[Row], started: datetime.datetime) -> Path | None:
    """Keep a pass in the folder that asv's plugin named; without one, as outside asv, nothing is kept.

    Where asv appends samples, those that are there of the same build and pattern stay.

    Parameters
    ----------
    pattern
        The benchmark's class.
    target
        Identity of the target.
    plan, rows
        What was asked for, and what came of it, the network limit's rows included.
    started
        When the pass began.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return None
    build = this_build()
    record = records.PassRecord(
        schema=records.SCHEMA,
        commit=build.commit,
        env_name=build.env_name,
        settings=build.settings,
        packages=_packages(),
        python=platform.python_version(),
        machine=Path(folder).parent.name,
        cpu=_cpu(),
        cores=allowed_cores(),
        cpu_quota=quota(),
        machine_cores=machine_cores(),
        pattern=pattern,
        target=target,
        started=started.isoformat(timespec="seconds"),
        rounds=plan.sessions * plan.rounds_of_session,
        sessions=plan.sessions,
        budget_seconds=plan.budget_seconds,
        network=next((row.network for row in reversed(rows) if row.network is not None), None),
        service=service_of(rows[0].workload) if rows else None,
        environment=rows[0].environment if rows else [],
        rows=[_row(row) for row in rows],
    )
    path = Path(folder) / f"{build.name}-{pattern}{records.SUFFIX}"
    if os.environ.get(APPEND_VARIABLE) == "1" and path.is_file():
        record = _appended(path, record)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return path


def _appended(path: Path, record: records.PassRecord) -> records.PassRecord:
    """Return a pass with what `path` holds of the same build before it; what cannot be read is replaced."""
    try:
        return records.appended(records.decode(path, records.PassRecord, records.SCHEMA), record)
    except MeasurementError as error:
        _log.info(f"the samples before are not kept: {error}")
        return record


def demand_installed(rows: Sequence[Row]) -> None:
    """Raise a MeasurementError where a pass was not measured with what asv's environment held before it.

    Workers say what they read with, each time a workload is opened. Outside asv there is nothing to compare with.
    """
    held: dict[str, str] = json.loads(os.environ.get(VERSIONS_VARIABLE, "{}"))
    used = [(f"{row.reader} used", name, row.versions[name]) for row in rows for name in _packages_of(row)]
    holds = [("it holds", name, version) for name, version in _packages().items()]
    for who, name, version in [*used, *holds]:
        if held.get(name, version) != version:
            raise MeasurementError(
                f"the environment changed during the pass: {who} {name} {version}, and asv had installed "
                f"{held[name]}; nothing of the pass is kept"
            )


def _packages_of(row: Row) -> list[str]:
    """Return the Python packages that a row's worker told of: a program in Rust tells of crates."""
    return [name for name in reader_class(row.reader).packages if name in row.versions]


def _row(row: Row) -> records.RowRecord:
    work = row.workload
    parameters = {k: v for k, v in msgspec.to_builtins(work.parameters).items() if v is not None}
    return records.RowRecord(
        reader=row.reader,
        dataset=work.array.key.rpartition("/")[2],
        parameters=parameters,
        label=work.label,
        digest=work.digest,
        in_flight=work.in_flight,
        array_bytes=work.array_bytes,
        wanted_bytes=work.wanted_bytes,
        wanted_chunks=work.wanted_chunks,
        wanted_shards=work.wanted_shards,
        reads=work.executed_reads,
        versions=row.versions,
        variant=row.variant,
        settings=row.settings,
        na=row.na,
        error=row.error,
        floor_seconds=row.floor_seconds,
        samples=row.samples,
    )


def write_timeline(read: str, timeline: Timeline) -> Path | None:
    """Keep a timeline beside the pass records; outside asv, which names their folder, nothing is kept."""
    passes = os.environ.get(FOLDER_VARIABLE)
    if not passes:
        return None
    record = timelines.TimelineRecord(schema=timelines.SCHEMA, read=read, timeline=timeline, **_now())
    name = f"{this_build().name}-{read.replace(' ', '_')}-{timeline.reader}{timelines.SUFFIX}"
    return _kept(Path(passes).parent / "timelines" / name, record)


def write_training(target: str, label: str, report: dict[str, Any]) -> Path | None:
    """Keep what arms fed beside the pass records; outside asv, which names their folder, nothing is kept."""
    passes = os.environ.get(FOLDER_VARIABLE)
    if not passes:
        return None
    record = trainings.TrainingRecord(schema=trainings.SCHEMA, target=target, label=label, report=report, **_now())
    return _kept(Path(passes).parent / "trainings" / f"{this_build().name}{trainings.SUFFIX}", record)


def _now() -> dict[str, Any]:
    """Return what every record tells of the build that is measured, at this moment."""
    build = this_build()
    return {
        "commit": build.commit,
        "env_name": build.env_name,
        "settings": build.settings,
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _kept(path: Path, record: records.OfCommit) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.encode(record) + b"\n")
    return path


def _packages() -> dict[str, str]:
    return dict(sorted((dist.name.lower(), dist.version) for dist in distributions() if dist.name))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


class Build(NamedTuple):
    """What asv measures: a commit in an environment, with the settings that keep results of places apart."""

    commit: str
    env_name: str
    settings: dict[str, str]

    @property
    def name(self) -> str:
        """What names it and fits into a file's name."""
        return records.name_of(self.commit, self.env_name)


def this_build() -> Build:
    """Return what asv has set up for this process."""
    settings = {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    return Build(os.environ.get("ASV_COMMIT", ""), os.environ.get("ASV_ENV_NAME", ""), settings)
