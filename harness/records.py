"""Pass records: everything that one conductor pass under asv measured, kept beside asv's own results.

asv's result files hold one list of numbers per metric. A pass record also holds the versions, the reasons, the flags
and every field of every sample, from which the table and the pages are made.
"""

import datetime
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from harness.errors import BadUseError, MeasurementError
from harness.network import Network
from harness.paths import write_atomically
from harness.sample import Sample

if TYPE_CHECKING:
    from harness.measure.conductor import Plan, Row

SCHEMA = 1
FOLDER_VARIABLE = "ZCB_PASSES"
"""Environment variable with the folder for pass records; harness/asv_plugin.py sets it in every ``asv run``."""

_SETTINGS = ("ZCB_TARGET", "ZCB_PRESET")
_SUFFIX = ".pass"  # asv reads every *.json below its results directory
_SHORT = 8
_LONGEST = 100


class RowRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass measured of one reader on one workload."""

    reader: str
    dataset: str
    parameters: dict[str, Any]
    """What the pattern was asked for, e.g. ``{"gap": 0}``."""
    label: str
    """The workload's name, e.g. ``chunks_of_one_shard small gap=1``."""
    digest: str
    """The workload's identity."""
    in_flight: int
    array_bytes: int
    wanted_bytes: int
    wanted_chunks: int
    wanted_shards: int
    reads: int = 1
    """Selections that the workload consists of."""
    versions: dict[str, str]
    variant: str = ""
    """Which of the reader's variants was the fastest and measured; for the network limit also whose."""
    na: str | None
    """Why the reader cannot do this workload."""
    error: str | None
    """Why the measurement failed; then there are no samples."""
    samples: list[Sample]
    """In the order of rounds: samples of one pass with the same position belong to the same round, except the network
    limit's, which has one more per round than readers took turns."""


class OfCommit(msgspec.Struct, frozen=True, kw_only=True):
    """What every kept record tells of the build that was measured."""

    schema: int
    commit: str
    """Full hash; empty where asv did not check a commit out."""
    commit_name: str = ""
    """Tag where the commit has one, else its first 8 digits; known when loaded."""
    date_ms: int = 0
    """Commit date, milliseconds since 1970; known when loaded, 0 where asv has no result of the commit."""
    env_name: str
    """asv's name of the environment."""
    settings: dict[str, str]
    """What besides the requirements tells results apart: target and preset asked for."""
    started: str
    """Local time with its offset, ISO 8601."""


class PassRecord(OfCommit, frozen=True, kw_only=True):
    """One pass: a pattern's workloads with all readers, at one commit in one environment."""

    packages: dict[str, str]
    """Installed versions in the environment."""
    python: str
    machine: str
    """asv's name of the machine."""
    cpu: str
    cores: int
    pattern: str
    """The benchmark's class, e.g. ``ChunksOfOneShard``."""
    target: str
    """Where was read from, e.g. ``embedded:s3``."""
    rounds: int
    """Rounds asked for."""
    budget_seconds: float | None
    network: Network | None = None
    """The interfaces whose counters the samples hold, as they were before the pass's last workload."""
    rows: list[RowRecord]

    @property
    def variant(self) -> str:
        """What stands for the code under test: a tag, a short hash, or zarr's version where asv built no commit."""
        return self.commit_name or f"zarr {self.packages.get('zarr', 'unknown')}"


def write(pattern: str, target: str, plan: "Plan", rows: Sequence["Row"], started: datetime.datetime) -> Path | None:
    """Keep a pass in the folder that asv's plugin named; without one, as outside asv, nothing is kept.

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
    record = PassRecord(
        schema=SCHEMA,
        commit=build.commit,
        env_name=build.env_name,
        settings=build.settings,
        packages=_packages(),
        python=platform.python_version(),
        machine=Path(folder).parent.name,
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        pattern=pattern,
        target=target,
        started=started.isoformat(timespec="seconds"),
        rounds=plan.samples,
        budget_seconds=plan.budget_seconds,
        network=next((row.network for row in reversed(rows) if row.network is not None), None),
        rows=[_row(row) for row in rows],
    )
    path = Path(folder) / f"{build.name}-{pattern}{_SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return path


class Build(NamedTuple):
    """What asv measures: a commit in an environment, with the settings that keep results of places apart."""

    commit: str
    env_name: str
    settings: dict[str, str]

    @property
    def name(self) -> str:
        """What names it and fits into a file's name.

        asv's name of an environment holds every requirement, and a file system takes 255 bytes.
        """
        digest = hashlib.sha256(self.env_name.encode()).hexdigest()
        env_name = self.env_name if len(self.env_name) <= _LONGEST else f"env-{digest[:32]}"
        return f"{self.commit[:12] or 'existing'}-{env_name}"


def this_build() -> Build:
    """Return what asv has set up for this process."""
    settings = {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    return Build(os.environ.get("ASV_COMMIT", ""), os.environ.get("ASV_ENV_NAME", ""), settings)


def _row(row: "Row") -> RowRecord:
    work = row.workload
    parameters = {k: v for k, v in msgspec.to_builtins(work.parameters).items() if v is not None}
    return RowRecord(
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
        reads=len(work.reads),
        versions=row.versions,
        variant=row.variant,
        na=row.na,
        error=row.error,
        samples=row.samples,
    )


def _packages() -> dict[str, str]:
    return dict(sorted((dist.name.lower(), dist.version) for dist in distributions() if dist.name))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def load(config: Path) -> list[PassRecord]:
    """Return the pass records of an asv configuration, in the order of commits and then of patterns' first run.

    Raises
    ------
    BadUseError
        No such configuration, or no records yet.
    MeasurementError
        A record is damaged.
    """
    from asv.config import Config

    if not config.is_file():
        raise BadUseError(f"there is no asv configuration {config}")
    try:
        conf = Config.load(str(config))
    except Exception as error:  # asv says no more of it
        raise BadUseError(f"{config} is not an asv configuration: {error}") from error
    found = of(conf, config.parent)
    if not found:
        results = config.parent / conf.results_dir
        raise BadUseError(f"no results in {results}: run `make bench`, or `asv run --config {config.name}`")
    return found


def of(conf: Any, folder: Path) -> list[PassRecord]:
    """Return the pass records of a loaded asv configuration, none or more; its relative paths start at `folder`."""
    paths = sorted((folder / conf.results_dir).glob(f"*/passes/*{_SUFFIX}"))
    named = Commits(conf, folder).named(decode(path, PassRecord, SCHEMA) for path in paths)
    return sorted(named, key=lambda record: (record.date_ms, record.variant, record.started))


class Commits:
    """Names and dates of the commits under test."""

    def __init__(self, conf: Any, folder: Path) -> None:
        self._dates = dict(_dates(folder / conf.results_dir))
        self._tags = tags(folder / conf.repo)
        self._builds = bool(conf.build_command)

    def named[R: OfCommit](self, records: Iterable[R]) -> list[R]:
        """Return records with the names and dates of their commits."""
        return [
            msgspec.structs.replace(
                record, commit_name=self._name(record.commit), date_ms=self._dates.get(record.commit, 0)
            )
            for record in records
        ]

    def _name(self, commit: str) -> str:
        """Return a commit's tag or short hash; empty where asv builds none, and all is in the environment."""
        return self._tags.get(commit, commit[:_SHORT]) if self._builds else ""


def decode[R: OfCommit](path: Path, kind: type[R], schema: int) -> R:
    """Return a kept record.

    Raises
    ------
    MeasurementError
        It is damaged, or of another version.
    """
    try:
        record = msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise MeasurementError(f"the record {path} cannot be read: {error}") from error
    if record.schema != schema:
        raise MeasurementError(f"the record {path} has schema {record.schema}; this version reads {schema}")
    return record


def _dates(results: Path) -> Iterator[tuple[str, int]]:
    """Yield commit dates as asv's own result files hold them, so that no repository is needed to show results."""
    from asv.results import iter_results

    for result in iter_results(str(results)):
        yield result.commit_hash, result.date or 0


def tags(repository: Path) -> Mapping[str, str]:
    """Return tag names by commit, where the repository is at hand."""
    if not repository.is_dir():
        return {}
    form = "%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end) %(refname:short)"
    done = subprocess.run(
        ["git", "-C", str(repository), "for-each-ref", "refs/tags", f"--format={form}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())
