"""Pass records: everything that one conductor pass under asv measured, kept beside asv's own results.

asv's result files hold one list of numbers per metric. A pass record also holds the versions, the reasons, the flags
and every field of every sample, from which the table and the pages are made.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import BadUseError, MeasurementError
from harness.machine import git
from harness.machine.network import Network
from harness.paths import contents
from harness.results.sample import Sample
from harness.store.state import Profile

SCHEMA = 1
FOLDER_VARIABLE = "ZCB_PASSES"
"""Environment variable with the folder for pass records; harness/asv/plugin.py sets it in every ``asv run``."""

VERSIONS_VARIABLE = "ZCB_VERSIONS"
"""Environment variable with the versions, as JSON, that asv's environment held before a pass; the plugin sets it."""

APPEND_VARIABLE = "ZCB_APPEND"
"""Environment variable that is 1 where asv appends samples to those that it has; the plugin sets it."""

SUFFIX = ".pass"  # asv reads every *.json below its results directory
_SHORT = 8
_IN_NAMES = 12
"""Digits of a commit in names of files."""
_LONGEST = 127
"""Letters of an environment's name in names of files."""


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
    settings: dict[str, bool | int | str] = {}
    """The settings that its process was given, by name, where a search chose some (docs/tuning.md)."""
    na: str | None
    """Why the reader cannot do this workload."""
    error: str | None
    """Why the measurement failed; then there are no samples."""
    floor_seconds: float | None = None
    """The least that the store's service time leaves for this workload; None where that is unknown."""
    samples: list[Sample]
    """In the order of rounds. Samples of a pass with the same `round_number` belong to the same round; in older records
    those with the same position do, except the network limit's, which has one more per round than readers had turns."""

    @property
    def pattern(self) -> str:
        """Name of the read pattern, e.g. ``chunks_of_one_shard``."""
        return self.label.partition(" ")[0]


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
    """Those that the pass might run on."""
    cpu_quota: float | None = None
    """Cores' worth of time that control groups left it; None for no limit."""
    machine_cores: int | None = None
    """Those that it shared with the embedded store; None in older records."""
    pattern: str
    """The benchmark's class, e.g. ``ChunksOfOneShard``."""
    target: str
    """Where was read from, e.g. ``embedded:s3``."""
    rounds: int
    """Rounds asked for, in all sessions together."""
    sessions: int = 1
    """Fresh processes of each reader that were asked for."""
    budget_seconds: float | None
    network: Network | None = None
    """The interfaces whose counters the samples hold, as they were before the pass's last workload."""
    service: Profile | None = None
    """Service time of the embedded store, with the rate of its link; None elsewhere, and in older records."""
    environment: list[str] | None = None
    """Names of what the workers had from outside: variables, and files with credentials; None where nobody noted it."""
    rows: list[RowRecord]

    @property
    def variant(self) -> str:
        """What stands for the code under test: a tag, a short hash, or zarr's version where asv built no commit."""
        return self.commit_name or f"zarr {self.packages.get('zarr', 'unknown')}"


def appended(older: PassRecord, newer: PassRecord) -> PassRecord:
    """Return a pass with the samples of two of one build and pattern: those of the newer one as further sessions.

    A reader has those of both on a workload where it read both times with the same libraries and settings; else the
    newer ones alone.
    """
    known = {(row.reader, row.digest): row for row in older.rows}
    samples = [sample for row in older.rows for sample in row.samples]
    sessions = max((sample.session or 0 for sample in samples), default=0)
    rounds = max((sample.round_number or 0 for sample in samples), default=0)

    def joined(row: RowRecord) -> RowRecord:
        before = known.get((row.reader, row.digest))
        later = [
            msgspec.structs.replace(
                one, session=sessions + (one.session or 1), round_number=rounds + (one.round_number or 1)
            )
            for one in row.samples
        ]
        if before is None or not later or _conditions(before) != _conditions(row):
            return row
        return msgspec.structs.replace(row, samples=[*before.samples, *later])

    return msgspec.structs.replace(
        newer,
        rows=[joined(row) for row in newer.rows],
        rounds=older.rounds + newer.rounds,
        sessions=older.sessions + newer.sessions,
    )


def _conditions(row: RowRecord) -> tuple[object, ...]:
    return row.versions, row.settings, row.variant, row.in_flight


def load(config: Path) -> list[PassRecord]:
    """Return the pass records of an asv configuration, in the order of commits and then of patterns' first run.

    Raises
    ------
    BadUseError
        No such configuration, or no records yet.
    MeasurementError
        A record is damaged.
    """
    conf = configuration(config)
    found = of(conf, config.parent)
    if not found:
        results = config.parent / conf.results_dir
        raise BadUseError(f"no results in {results}: run `make bench`, or `asv run --config {config.name}`")
    return found


def configuration(path: Path) -> Any:
    """Return what asv makes of a configuration; a BadUseError says that it is none."""
    from asv.config import Config

    if not path.is_file():
        raise BadUseError(f"there is no asv configuration {path}")
    try:
        return Config.load(str(path))
    except Exception as error:  # asv says no more of it
        raise BadUseError(f"{path} is not an asv configuration: {error}") from error


def of(conf: Any, folder: Path) -> list[PassRecord]:
    """Return the pass records of a loaded asv configuration, none or more; its relative paths start at `folder`."""
    paths = sorted((folder / conf.results_dir).glob(f"*/passes/*{SUFFIX}"))
    named = Commits(conf, folder).named(decode(path, PassRecord, SCHEMA) for path in paths)
    return sorted(named, key=lambda record: (record.date_ms, record.variant, record.started))


def beside[R: OfCommit](conf: Any, folder: Path, files: str, kind: type[R], schema: int) -> list[R]:
    """Return what a loaded asv configuration has beside its passes, by commit; its relative paths start at `folder`.

    Parameters
    ----------
    files
        Below each machine's results, e.g. ``timelines/*.timeline``.

    Raises
    ------
    MeasurementError
        One is damaged.
    """
    paths = sorted((folder / conf.results_dir).glob(f"*/{files}"))
    named = Commits(conf, folder).named(decode(path, kind, schema) for path in paths)
    return sorted(named, key=lambda record: (record.date_ms, record.env_name, record.started))


def of_build(machine: Path, commit: str, env_name: str) -> list[Path]:
    """Return the records of a commit in an environment, of every kind; what cannot be read is nobody's.

    Parameters
    ----------
    machine
        Folder with a machine's results.
    commit, env_name
        As asv has them.
    """
    return [path for path in sorted(machine.glob(f"*/{commit[:_IN_NAMES]}-*")) if _is_of(path, commit, env_name)]


def name_of(commit: str, env_name: str) -> str:
    """Return what names a build in names of files: the environment as asv's own result files have it.

    asv's name of an environment holds every requirement, and a file system takes 255 bytes.
    """
    short = env_name if len(env_name) <= _LONGEST else f"env-{env_digest(env_name)}"
    return f"{commit[:_IN_NAMES] or 'existing'}-{short}"


def env_digest(env_name: str) -> str:
    """Return the digest by which asv calls an environment whose name is too long."""
    return hashlib.md5(env_name.encode()).hexdigest()  # noqa: S324 - asv's choice


def _is_of(path: Path, commit: str, env_name: str) -> bool:
    try:
        found = msgspec.json.decode(contents(path), type=OfCommit)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return False
    return (found.commit, found.env_name) == (commit, env_name)


class Commits:
    """Names and dates of the commits under test."""

    def __init__(self, conf: Any, folder: Path) -> None:
        repository = folder / conf.repo
        # asv's results hold dates once a run has ended; a repository knows them before.
        self._dates = {**_tag_dates(repository), **dict(_dates(folder / conf.results_dir))}
        self._tags = tags(repository)
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
        record = msgspec.json.decode(contents(path), type=kind)
    except (OSError, msgspec.MsgspecError, RecursionError) as error:
        raise MeasurementError(f"the record {path} cannot be read: {error}") from error
    if record.schema != schema:
        raise MeasurementError(
            f"the record {path} has schema {record.schema}; this version reads {schema}: remove it and measure again"
        )
    return record


def _dates(results: Path) -> Iterator[tuple[str, int]]:
    """Yield commit dates as asv's own result files hold them, so that no repository is needed to show results."""
    from asv.results import iter_results

    for result in iter_results(str(results)):
        yield result.commit_hash, result.date or 0


def tags(repository: Path) -> Mapping[str, str]:
    """Return tag names by commit, where the repository is at hand."""
    return dict(_of_tags(repository, "%(refname:short)"))


def _tag_dates(repository: Path) -> dict[str, int]:
    """Return the dates of tagged commits, milliseconds since 1970, where the repository is at hand."""
    peeled = "%(if)%(*objectname)%(then)%(*committerdate:unix)%(else)%(committerdate:unix)%(end)"
    return {commit: 1000 * int(date) for commit, date in _of_tags(repository, peeled) if date}


def _of_tags(repository: Path, what: str) -> Iterator[tuple[str, str]]:
    """Yield the commit of each tag, and what git's format `what` says of the tag."""
    if not repository.is_dir():
        return
    form = f"%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end) {what}"
    for line in (git.ask(repository, "for-each-ref", "refs/tags", f"--format={form}") or "").splitlines():
        commit, _, said = line.partition(" ")
        yield commit, said
