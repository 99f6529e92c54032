"""What `zcb bench` measures: which readers and cases of which release, what of it is missing, and how long it takes."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asv.config import Config
from asv.environment import get_environments
from packaging.version import Version

from harness.asv import fed, tracked
from harness.asv.history import LATEST
from harness.measure.conductor import Plan
from harness.results import records
from harness.results.intervals import FEWEST
from harness.results.records import PassRecord
from harness.results.sample import NETWORK_LIMIT
from harness.workload import cases
from harness.workload.cases import Case, Use

LOOPBACK_CONFIG, VETH_CONFIG = Path("asv.releases.conf.json"), Path("asv.veth.conf.json")
"""asv's configurations of the releases, one for each network of the embedded store."""

FIRST_PATTERN, FIRST_CLASS = "chunks_of_one_shard", "ChunksOfOneShard"
"""What the first table shows."""

QUICK = {"ZCB_GRID": "quick", "ZCB_SAMPLES": str(FEWEST), "ZCB_READER_SECONDS": "2"}
"""The quick profile: as many samples of one process as an interval needs, of readers whose turns take two seconds."""

FULL = {"ZCB_SAMPLES": "21", "ZCB_SESSIONS": "7", "ZCB_WORKLOAD_SECONDS": "20"}
"""All cases for 20 seconds, and at least a round in each of seven fresh processes of every reader.

`make bench FULL=1 SECONDS=0` takes three rounds of everything in each process."""

_OPENING_SECONDS = 4.0
"""What a case takes before its rounds, and each session besides."""
_TIMELINES = "timeline"
_TIMELINE_SECONDS = 35.0
_OVERHEAD_SECONDS = 25.0  # an asv run: install, discover, look up
_FULL_TIMELINE_SECONDS = 150.0
_BESIDES = "asv's own timings, and training"
"""A step that no pass reports: it is done when its release is."""
_PLAIN_SECONDS = 20.0
_TRAINING_RUN_SECONDS = 200.0  # of all arms


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is measured of a version: the readers that take turns, and the cases."""

    readers: tuple[str, ...]
    full: bool
    recorded: bool = True
    """Whether timelines are recorded: in a quick job those of the oldest and the newest release show what changed."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that a person asks for, over the profile's."""
    every_class: bool = False
    """Whether asv's own timings and the training loop are measured too, as they always are where all is `full`."""

    @property
    def use(self) -> Use:
        """The use of the cases that are measured."""
        return "asv" if self.full else "quick"

    @property
    def selection(self) -> str:
        """The regular expression by which asv chooses its rows."""
        if self.full or self.every_class:
            return "."
        names = "|".join(re.escape(repr(name)) for name in self.readers)
        left_out = "Plain|Training" if self.recorded else "Plain|Training|Timelines"
        return rf"^(?!.*\.(?:{left_out})).*\((?:{names})"

    def cases(self) -> list[Case]:
        """Return what is measured."""
        return cases.load().used(self.use)

    @property
    def profile(self) -> dict[str, str]:
        """The environment variables that say how much is measured."""
        return {**(FULL if self.full else QUICK), **self.given}

    def steps(self) -> dict[str, float]:
        """Return the steps, by the names that passes report, with the seconds that each takes on two cores."""
        known, plan = cases.load(), tracked.plan_of(self.profile)
        of_zarr_alone = list(self.readers) == tracked.PLAIN_READERS
        part = 0.45 if of_zarr_alone else 1.0  # the network limit takes turns all the same
        found = {
            case.label: part * _OPENING_SECONDS * (1 + plan.sessions)
            + _rounds_seconds(part * known.patterns[case.pattern].round_seconds, len(self.readers), plan)
            for case in self.cases()
        }
        timelines = [case.timeline for case in known.all if case.timeline and self.recorded]
        recorded = [how for how in timelines if self.full or how.quick]
        each = _FULL_TIMELINE_SECONDS if self.full else _TIMELINE_SECONDS
        found |= {f"{_TIMELINES} of {how.name}": part * each for how in recorded}
        if self.full or self.every_class:
            found[_BESIDES] = _training_seconds(plan) + _PLAIN_SECONDS * len(known.used("plain"))
        return found

    @property
    def seconds(self) -> float:
        """How long it takes on two cores."""
        return _OVERHEAD_SECONDS + sum(self.steps().values())


@dataclass(frozen=True, kw_only=True)
class Release(Asked):
    """A release to measure."""

    version: str

    @property
    def tag(self) -> str:
        """Its name in the history."""
        return f"v{self.version}"


def _training_seconds(plan: Plan) -> float:
    """Return how long the training loop takes: all runs, or two of each arm and those that an arm's budget leaves."""
    with_budget = 2 * _TRAINING_RUN_SECONDS + len(fed.ARMS) * (plan.budget_seconds or math.inf)
    return min(plan.samples * _TRAINING_RUN_SECONDS, with_budget)


def _rounds_seconds(round_seconds: float, readers: int, plan: Plan) -> float:
    """Return how long a case's rounds take: all, or those that its budget leaves, one in each session at least."""
    each = round_seconds * (2 if plan.always_discards else 1)
    budget = min(plan.budget_seconds or math.inf, readers * (plan.reader_seconds or math.inf))
    return min(plan.samples * each, max(budget, plan.sessions * each))


def versions(history: Path, asked: Iterable[str]) -> list[str]:
    """Return the releases that were asked for by their numbers, oldest first.

    Parameters
    ----------
    history
        The repository of releases, which holds them.
    asked
        Versions; ``latest`` is the newest that the repository holds.
    """
    held = sorted((tag.removeprefix("v") for tag in records.tags(history).values()), key=Version)
    return sorted({held[-1] if version == LATEST else version for version in asked}, key=Version)


def plan(versions: Sequence[str], *, full: bool, given: Mapping[str, str] | None = None) -> list[Release]:
    """Return the releases in the order in which they are measured: the oldest and the newest, then what lies between.

    In a quick job all but the newest have zarr-python's readers alone: nothing else changes with the release.

    Parameters
    ----------
    versions
        Oldest first.
    full
        Whether everything is measured.
    given
        Environment variables that a person asks for, over the profile's.
    """
    newest = versions[-1]
    every, of_zarr = tuple(tracked.readers(quick=not full)), tuple(tracked.PLAIN_READERS)
    ends = [versions[0], newest]
    return [
        Release(
            version=version,
            readers=every if full or version == newest else of_zarr,
            full=full,
            recorded=full or version in ends,
            given=given or {},
        )
        for version in dict.fromkeys([*ends, *versions[1:-1]])
    ]


def asked_of_asv(releases: Sequence[str], variables: Mapping[str, str]) -> list[Release]:
    """Return what `asv run` measures of releases by environment variables alone: each reader at each, all benchmarks.

    Parameters
    ----------
    releases
        Versions.
    variables
        As ``ZCB_SAMPLES`` and ``ZCB_GRID``; those that are not there have asv's defaults, without a budget.
    """
    quick = tracked.is_quick(variables)
    given = {name: variables.get(name, "") for name in {*QUICK, *FULL}}
    readers = tuple(tracked.readers(quick=quick))
    return [
        Release(version=version, readers=readers, full=not quick, given=given, every_class=True) for version in releases
    ]


def is_measured(release: Release, passes: Iterable[PassRecord], environments: Iterable[str]) -> bool:
    """Whether the passes hold all that is measured of a release.

    Parameters
    ----------
    release
        What is asked for.
    passes
        What has been recorded.
    environments
        asv's names of its environments as they are now: other versions of a library are other figures.
    """
    names = set(environments)
    return holds(release, [one for one in passes if one.commit_name == release.tag and one.env_name in names])


def holds(asked: Asked, passes: Iterable[PassRecord]) -> bool:
    """Whether passes of one version hold a sample, or a reason why there is none, of all that was asked for."""
    known = {(row.reader, row.label) for one in passes for row in one.rows if row.samples or row.na}
    return known.issuperset(itertools.product((*asked.readers, NETWORK_LIMIT), (one.label for one in asked.cases())))


def environments(config: Path) -> list[str]:
    """Return asv's names of the environments of a configuration."""
    return [environment.name for environment in get_environments(Config.load(str(config)), None)]


def recorded(config: Path) -> list[PassRecord]:
    """Return the pass records of a configuration in the working directory; none is fine."""
    return records.of(Config.load(str(config)), Path())


def variables(asked: Asked, steps: Path) -> dict[str, str]:
    """Return the environment variables of an `asv run`.

    Parameters
    ----------
    asked
        What is measured.
    steps
        The file that passes append to how far they are.
    """
    return {**asked.profile, "ZCB_READERS": ",".join(asked.readers), tracked.STEPS_VARIABLE: str(steps)}
