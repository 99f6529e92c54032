"""The search for the best public settings of a library on a workload (docs/tuning.md).

A candidate takes turns with the best settings known by then, in pairs with the same draws of the store. Every execution
is verified, and a candidate is better only if the interval of the pairs' ratios lies below 1.
"""

import contextlib
import datetime
import itertools
import logging
import math
import random
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

from harness.errors import UnsupportedError, ZcbError
from harness.machine.cpu import cores
from harness.measure.evidence import Probe
from harness.measure.execution import OPEN_SECONDS, Candidate, executed, warm_up
from harness.measure.process import WorkerProcess, told
from harness.readers.base import Reader
from harness.readers.settings import Value, given, in_words
from harness.readers.tunings import Outcome, Trial, Tuning, place
from harness.results.sample import FLAG_IN_FLIGHT, Sample
from harness.workload.model import Workload

_log = logging.getLogger(__name__)

DEFAULT_SECONDS = 900.0
"""No candidate is tried any more after this long."""

PAIRS = 20
"""Pairs that a better candidate takes: four with each of five processes, since a process can be fast by chance."""

PAIRS_PER_PROCESS = 4

MAY_LOSE = 4
"""Pairs that a better candidate may lose: settings that are equal win by chance once in 169 trials, and hardly ever
once more against the documentation's at the end. Fewer would miss what is better on a machine with other work."""

MAY_LOSE_FIRST = 2
"""Of the first pairs, so many: what loses all of the first three is given up."""

COVERAGE = 1 - 2 * sum(math.comb(PAIRS, lost) for lost in range(MAY_LOSE + 1)) / 2**PAIRS
"""What the interval of a median covers: the ratios without the lowest and the highest four."""

MOST_PASSES = 3
"""Times that every setting is looked at."""

GRID = 24
"""Combinations up to which all are tried."""

Settings = Mapping[str, Value]


class _RefusedError(Exception):
    """A candidate that is no fair one."""


@dataclass
class Search:
    """A search for one reader and one workload; use it as a context manager.

    Parameters
    ----------
    reader
        As its documentation tells, with the settings that may be tried.
    workload
        What is read.
    seconds
        No candidate is tried any more after this long.
    environment
        Variables for its processes beside those of a sealed environment.
    """

    reader: type[Reader]
    workload: Workload
    seconds: float = DEFAULT_SECONDS
    environment: Mapping[str, str] = field(default_factory=dict)
    _best: Settings = MappingProxyType({})
    _complete: bool = True
    _trials: list[Trial] = field(default_factory=list)
    _versions: dict[str, str] = field(default_factory=dict)
    _flags: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._random = random.Random(self.workload.digest)  # noqa: S311 - an order of turns
        self._tried: list[Settings] = [{}]
        self._probe = Probe(self.workload.target)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._probe.__exit__(None, None, None)

    def run(self) -> Tuning:
        """Search and return what was found.

        Raises
        ------
        UnsupportedError
            The reader cannot do this workload with the settings of its documentation.
        MeasurementError
            It fails with them.
        """
        self._probe.demand_no_faults()
        started, begin = datetime.datetime.now().astimezone(), time.monotonic()
        self._until = begin + self.seconds
        self._demand_documented()
        for candidate in self._grid() if self._is_small() else self._descent():
            trial = self._try(candidate, self._best)
            if trial.outcome == "better":
                self._best = candidate
        last = self._against_documented()
        work = self.workload
        return Tuning(
            reader=self.reader.name,
            target=place(work.target),
            pattern=work.pattern,
            dataset=work.array.key,
            in_flight=work.in_flight,
            settings=dict(self._best),
            complete=self._complete,
            ratio=last.ratio if last else None,
            low=last.low if last else None,
            high=last.high if last else None,
            workload=work.label,
            digest=work.digest,
            link="" if work.target.profile is None else work.target.link or "lo",
            cores=cores(),
            versions=self._versions,
            started=started.isoformat(timespec="seconds"),
            search_seconds=round(time.monotonic() - begin, 1),
            trials=self._trials,
        )

    def _demand_documented(self) -> None:
        """Raise what stands against the reader as its documentation tells: without it there is no search."""
        with self._opened({}) as worker:
            self._sample(worker)

    def _is_small(self) -> bool:
        return math.prod(len(setting.values) + 1 for setting in self.reader.settings) <= GRID

    def _grid(self) -> Iterator[Settings]:
        """Yield every combination, those that change least first: where the time is up, no setting was left out."""
        choices = [
            [{}, *({setting.name: value} for value in setting.values)]  # the documentation's first
            for setting in self.reader.settings
        ]
        products = itertools.product(*choices)
        combined: list[Settings] = [{name: value for one in of for name, value in one.items()} for of in products]
        for candidate in sorted(combined, key=len):
            yield from self._new(candidate)

    def _descent(self) -> Iterator[Settings]:
        """Yield the best settings with another value of one, setting by setting, as long as a pass finds better ones.

        What the best settings are by then is decided between two of them.
        """
        for _ in range(MOST_PASSES):
            before = self._best
            for setting in self.reader.settings:
                others = {name: value for name, value in self._best.items() if name != setting.name}
                yield from self._new(others)
                for value in setting.values:
                    others = {name: value for name, value in self._best.items() if name != setting.name}
                    yield from self._new({**others, setting.name: value})
            if self._best == before:
                return

    def _new(self, candidate: Settings) -> Iterator[Settings]:
        """Yield the candidate unless it was tried already, or the time is up."""
        if candidate in self._tried:
            return
        if time.monotonic() >= self._until:
            self._complete = False
            return
        self._tried.append(candidate)
        yield candidate

    def _against_documented(self) -> Trial | None:
        """Return a last trial, of the best against the documentation's settings, which stay unless it is better."""
        if not self._best:
            return None
        trial = self._try(self._best, {})
        if trial.outcome == "better":
            return trial
        self._best = {}
        return None

    def _try(self, candidate: Settings, against: Settings) -> Trial:
        """Let a candidate take turns with other settings, and note what came of it."""
        ours: list[float] = []
        theirs: list[float] = []
        outcome: Outcome
        try:
            outcome, reason = self._contest(candidate, against, ours, theirs), ""
        except _RefusedError as refused:
            outcome, reason = "refused", str(refused)
        except UnsupportedError as unsupported:
            outcome, reason = "n/a", str(unsupported)
        except ZcbError as error:
            outcome, reason = "failed", f"{error}{self._probe.trouble()}"
        flags, self._flags = sorted(self._flags), set()
        ratios = sorted(a / b for a, b in zip(ours, theirs, strict=False))
        whole = len(ratios) == PAIRS
        trial = Trial(
            settings=dict(candidate),
            against=dict(against),
            outcome=outcome,
            reason=reason,
            ratio=round(statistics.median(ratios), 4) if ratios else None,
            low=round(ratios[MAY_LOSE], 4) if whole else None,
            high=round(ratios[-1 - MAY_LOSE], 4) if whole else None,
            seconds=[round(seconds, 6) for seconds in ours],
            seconds_against=[round(seconds, 6) for seconds in theirs],
            flags=flags,
        )
        self._trials.append(trial)
        _log.info(f"{self.reader.name}: {in_words(candidate)}: {_said(trial)}")
        return trial

    def _contest(self, candidate: Settings, against: Settings, ours: list[float], theirs: list[float]) -> Outcome:
        """Take pairs until it is known whether the candidate is better, and note their seconds.

        It is not once it has lost more pairs than it may: those that are left could not change that.
        """
        self._probe.watch()
        for _ in range(PAIRS // PAIRS_PER_PROCESS):
            with self._opened(candidate) as challenger, self._opened(against) as holder:
                for _ in range(PAIRS_PER_PROCESS):
                    self._probe.round_number += 1
                    pair = self._pair(challenger, holder)
                    ours.append(pair[0])
                    theirs.append(pair[1])
                    lost = sum(a >= b for a, b in zip(ours, theirs, strict=True))
                    if lost > MAY_LOSE or lost == len(ours) > MAY_LOSE_FIRST:
                        return "not better"
        return "better"

    def _pair(self, challenger: WorkerProcess, holder: WorkerProcess) -> tuple[float, float]:
        """Return the seconds of a candidate and of what it is held against, in random order."""
        turns = [challenger, holder]
        self._random.shuffle(turns)
        samples = {id(worker): self._sample(worker) for worker in turns}
        candidate = samples[id(challenger)]
        most = candidate.max_in_flight or 0
        if FLAG_IN_FLIGHT in candidate.flags and most > self.workload.in_flight:
            raise _RefusedError(f"{most} requests in flight, more than the {self.workload.in_flight} that it may have")
        return candidate.seconds, samples[id(holder)].seconds

    @contextlib.contextmanager
    def _opened(self, chosen: Settings) -> Iterator[WorkerProcess]:
        """Start a process with settings, let it open the workload, and end it after the block."""
        settings = given(self.reader.settings, chosen, in_flight=self.workload.in_flight)
        worker = WorkerProcess(self.reader, self.environment, settings)
        try:
            self._versions = told(worker.open(self.workload, timeout=OPEN_SECONDS), "versions", dict[str, str])
            warm_up(worker, self._candidate, self.workload)
            yield worker
        finally:
            worker.stop()

    def _sample(self, worker: WorkerProcess) -> Sample:
        """Return the sample of a warm execution: another one where the store accepted a new connection meanwhile."""
        sample = self._executed(worker)
        return self._executed(worker) if sample.new_connections else sample

    def _executed(self, worker: WorkerProcess) -> Sample:
        sample = executed(worker, self._candidate, self.workload, self._probe)
        self._flags |= set(sample.flags)
        return sample

    @property
    def _candidate(self) -> Candidate:
        return Candidate(self.reader.name)


def _said(trial: Trial) -> str:
    """Return a trial's outcome in words."""
    against = in_words(trial.against)
    if trial.ratio is None or trial.reason:
        return f"{trial.outcome}: {trial.reason}"
    return f"{trial.outcome} than {against}, {trial.ratio:.2f} of its time in {len(trial.seconds)} pairs"
