"""New commits of a branch: which of them change the package, which are measured, and what was told of before."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from asv.machine import Machine

from harness.asv import main_job, tracked
from harness.asv.main_job import Asked
from harness.errors import BadUseError
from harness.machine import git
from harness.measure.conductor import DEFAULT_SAMPLES, SESSIONS
from harness.paths import contents, write_atomically
from harness.results import records
from harness.results.records import PassRecord, RowRecord

_log = logging.getLogger(__name__)

PACKAGE = ("src", "pyproject.toml")
"""What of zarr-python's repository is built: a commit that changes nothing of it reads as the one before it."""

_TOLD = "told"  # a file of JSON beside the results; asv reads every *.json there
_FIELD, _RECORD = "\x1f", "\x1e"


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A commit of the branch."""

    commit: str
    """Full hash."""
    date: str
    """Of the commit, ISO 8601."""
    subject: str


def changing(clone: Path, since: str | None, tip: str) -> list[Commit]:
    """Return the commits of a branch that change the package, oldest first; a merged branch counts as its merge.

    Parameters
    ----------
    clone
        Repository of zarr-python.
    since
        Full hash; the first commit is the one that holds the package as it was then. None: the newest one alone.
    tip
        Full hash of the branch's end.

    Raises
    ------
    BadUseError
        `since` is not in the branch's history, or nothing in that ever held the package.
    """
    if since is not None and git.ask(clone, "merge-base", "--is-ancestor", since, tip) is None:
        raise BadUseError(f"{since[:12]} is not in the history of {tip[:12]}: name a commit of the branch by --since")
    first = _commits(clone, "-1", since or tip)
    if not first:
        raise BadUseError(f"{clone.name} has no commit that holds {' or '.join(PACKAGE)}: is it zarr-python's?")
    return first if since is None else [*first, *_commits(clone, "--reverse", f"{since}..{tip}")]


def _commits(clone: Path, *arguments: str) -> list[Commit]:
    form = f"--format=%H{_FIELD}%cI{_FIELD}%s{_RECORD}"
    said = git.run(clone, "log", "--first-parent", form, *arguments, "--", *PACKAGE)
    entries = (entry.strip().split(_FIELD) for entry in said.split(_RECORD) if entry.strip())
    return [Commit(commit=commit, date=date, subject=subject) for commit, date, subject in entries]


def chosen(commits: Sequence[Commit], most: int) -> list[Commit]:
    """Return the first commit, and at most `most` of the others, evenly spread, with the last one among them."""
    first, new = commits[:1], commits[1:]
    count = min(most, len(new))
    return [*first, *(new[(place + 1) * len(new) // count - 1] for place in range(count))]


class Results:
    """What this machine has measured with one asv configuration, and what of it was told."""

    def __init__(self, config: Path, *, quick: bool, machine: str | None = None) -> None:
        self._config, self._conf = config, records.configuration(config)
        self._sessions = 1 if quick else SESSIONS
        self.machine: str = machine or Machine.get_unique_machine_name()
        self.asked = Asked(readers=tuple(tracked.PLAIN_READERS), full=False, recorded=False, given=self._given())
        named: dict[str, list[str]] = self._conf.matrix.get("env_nobuild", {})
        self.settings = {name: values[0] for name, values in named.items()}
        """Target and preset that the configuration names."""

    def _given(self) -> dict[str, str]:
        """Return the variables of an `asv run` over those of its profile: three rounds in each of the processes."""
        if self._sessions == 1:
            return {}
        return {"ZCB_SAMPLES": str(DEFAULT_SAMPLES), "ZCB_SESSIONS": str(self._sessions), "ZCB_READER_SECONDS": ""}

    def of(self, commits: Iterable[Commit]) -> list[PassRecord]:
        """Return the passes of commits, in their order, with as many processes as are asked for."""
        found = [one for one in self._passes() if one.sessions >= self._sessions]
        return [one for commit in commits for one in found if one.commit == commit.commit]

    def missing(self, commits: Sequence[Commit]) -> list[Commit]:
        """Return the commits of which not all that is asked for has been measured."""
        found = self.of(commits)
        return [one for one in commits if not main_job.holds(self.asked, _of_commit(found, one))]

    def measured(self, commits: Sequence[Commit]) -> list[Commit]:
        """Return the commits at which some reader could read: a broken one is nothing to compare the next one with."""
        found = self.of(commits)
        return [one for one in commits if any(row.samples for row in self._rows(_of_commit(found, one)))]

    def failure(self, commit: Commit) -> str | None:
        """Return why a reader could not read at a commit; None where that was not seen."""
        return next((row.error for row in self._rows(self.of([commit])) if row.error), None)

    def _rows(self, passes: Iterable[PassRecord]) -> list[RowRecord]:
        return [row for one in passes for row in one.rows if row.reader in self.asked.readers]

    def start(self, clone: Path, branch: str, tip: str) -> str | None:
        """Return the commit up to which was told; where that is lost, the newest of the branch that has results."""
        history = git.run(clone, "rev-list", "--first-parent", tip).split()
        told = self._told().get(self._key(branch))
        if told in history:
            return told
        measured = {one.commit for one in self._passes()}
        return next((commit for commit in history if commit in measured), None)

    def tell(self, branch: str, commit: str) -> None:
        """Note up to which commit of a branch was told what changed."""
        write_atomically(self._file, msgspec.json.encode(self._told() | {self._key(branch): commit}) + b"\n")

    def _passes(self) -> list[PassRecord]:
        """Return the passes of this machine at the configuration's target, in its environments as they are now."""
        names = set(main_job.environments(self._config))
        return [
            one
            for one in records.of(self._conf, self._config.parent)
            if one.machine == self.machine and one.env_name in names and one.settings == self.settings
        ]

    @property
    def _file(self) -> Path:
        return self._config.parent / str(self._conf.results_dir) / self.machine / _TOLD

    def _key(self, branch: str) -> str:
        return " ".join([branch, *self.settings.values()])

    def _told(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(contents(self._file), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            _log.info(f"{self._file} cannot be read, so what was told of is taken from the results: {error}")
            return {}


def _of_commit(passes: Iterable[PassRecord], commit: Commit) -> list[PassRecord]:
    return [one for one in passes if one.commit == commit.commit]
