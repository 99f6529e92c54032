"""The conductor: lets readers take turns on the same workloads and puts the counters around each turn.

A round of a workload is: a network-limit turn, then for each reader in shuffled order its turn and another
network-limit turn. So drift of the machine hits all readers alike, and every sample stands between two limits. (In the
quick profile three readers take turns between two limits.)
"""

import contextlib
import itertools
import logging
import math
import random
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from harness.errors import UnsupportedError, ZcbError
from harness.machine import log
from harness.machine.cpu import allowed_cores
from harness.machine.environment import let_in
from harness.machine.interrupts import Interrupted
from harness.machine.network import Network
from harness.measure.evidence import Probe, attach_limit
from harness.measure.execution import OPEN_SECONDS, Candidate, executed, fastest, warm_up
from harness.measure.floor import floor_of
from harness.measure.process import WorkerProcess, told
from harness.measure.rotation import Rotation
from harness.measure.rounds import whole_round
from harness.readers import clients, limit_clients, reader_class
from harness.readers.settings import Value
from harness.readers.tunings import given_for
from harness.results.sample import FLAG_BUSY_MACHINE, FLAG_HOT, NETWORK_LIMIT, Sample
from harness.workload.model import Workload

_log = logging.getLogger(__name__)

SESSIONS = 7
"""Fresh processes of each reader where figures are to hold: fewer than 6 medians have no interval."""
DEFAULT_SAMPLES = 3 * SESSIONS


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to measure."""

    samples: int = DEFAULT_SAMPLES
    """Rounds of each workload, in all sessions together; each session takes an equal number, rounded up."""
    sessions: int = 1
    """Fresh processes of each reader. All workloads of a session share its processes; budgets are shared evenly."""
    budget_seconds: float | None = None
    """No new round of a workload starts after this long, once it has `minimum` rounds, and one in each session; None is
    no budget."""
    reader_seconds: float | None = None
    """A reader whose turns took as long sits a workload's other rounds out; None is the budget."""
    minimum: int = 2
    trials: int = 3
    """Executions of each candidate before the measurement, where there is more than one way to do the work; one is
    enough where the first took `reader_seconds`."""
    always_discards: bool = True
    """Whether each turn starts with a discarded execution. Otherwise a turn is one execution, and another one where the
    store accepted a new connection during the first."""
    readers_between_limits: int = 1
    """Turns of readers between two of the network limit."""
    cold: bool = False
    """Whether each timed execution of a round reads objects that no other one of it reads, and warm-ups others again.
    Where that cannot be, samples are flagged `hot`."""
    seed: int = 0
    """Of the order in which readers take turns."""
    deadline_seconds: float | None = None
    """When an execution counts as hanging; None is `turn_deadline`."""
    with_faults: bool = False
    """Whether samples count during which the store injected faults, flagged: never in a benchmark."""

    @property
    def rounds_of_session(self) -> int:
        """Rounds of a workload in one session, where no budget ends it."""
        return math.ceil(self.samples / self.sessions)

    def enough(self, rounds: int, seconds: float) -> bool:
        """Whether a session has measured a workload enough after `rounds` rounds that took `seconds`."""
        least = math.ceil(self.minimum / self.sessions)
        spent = self.budget_seconds is not None and seconds >= self.budget_seconds / self.sessions and rounds >= least
        return rounds >= self.rounds_of_session or spent

    @property
    def patience(self) -> float:
        """Seconds that a reader's turns of one workload may take in a session before it sits the others out."""
        return (self.reader_seconds or self.budget_seconds or math.inf) / self.sessions


@dataclass(kw_only=True)
class Row:
    """What was measured of one reader on one workload: samples, or why there are none."""

    reader: str
    workload: Workload
    versions: dict[str, str] = field(default_factory=dict)
    variant: str = ""
    """The candidate that measures, where several competed, e.g. ``network-limit exact``."""
    settings: dict[str, Value] = field(default_factory=dict)
    """The settings that its process was given, by name; none where it is as its library's documentation tells."""
    samples: list[Sample] = field(default_factory=list)
    na: str | None = None
    """Why the reader cannot do this workload."""
    error: str | None = None
    """Why the measurement failed; such a row has no samples."""
    missing: str | None = None
    """Why a client of the network limit could not compete; others did."""

    network: Network | None = None
    """The interfaces whose counters the samples hold."""
    environment: list[str] = field(default_factory=list)
    """Names of what its process had from outside: variables, and files with credentials."""
    seconds: float = 0.0
    """What its turns took in this session, warm-ups included."""
    candidate: Candidate | None = None
    """Who takes its samples; settled in the first session."""
    floor_seconds: float | None = None
    """What the store's service time leaves as the least for anybody; None where it has none, or is not ours."""

    @property
    def measured(self) -> bool:
        """Whether turns still make sense: nothing failed and the reader can do it."""
        return self.na is None and self.error is None

    def fail(self, reason: str) -> None:
        """Give the row up: a reader that failed once records nothing for this workload."""
        self.error = reason
        self.samples.clear()


class Conductor:
    """Owns one worker per reader over all workloads of a pass; use it as a context manager.

    Parameters
    ----------
    readers
        Those that take turns, beside the network limit.
    plan
        How much to measure.
    environment
        Variables that every worker has beside those of a sealed environment.
    """

    def __init__(
        self, readers: Sequence[str], *, plan: Plan, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._readers = [name for name in readers if name not in limit_clients()]
        self._plan = plan
        self._environment = environment
        self._random = random.Random(plan.seed)  # noqa: S311 - an order of turns, not a secret
        self._workers: dict[str, WorkerProcess] = {}
        self._session = 1
        self._rotations: dict[str, Rotation | None] = {}
        self._rotation: Rotation | None = None
        self._told_of_others: Workload | None = None
        self._told_of_missing: set[str] = set()

    def __enter__(self) -> "Conductor":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()

    def pids(self) -> dict[str, int]:
        """Return the process id of each worker that is there, by reader."""
        return {name: worker.pid for name, worker in self._workers.items()}

    def measure(self, workload: Workload) -> list[Row]:
        """Return one row per reader for `workload`, the network limit's last; see `measure_all`."""
        return self.measure_all([workload])[0]

    def measure_all(self, workloads: Sequence[Workload]) -> list[list[Row]]:
        """Return, for each workload, one row per reader, the network limit's last.

        Each session starts every reader once and measures all workloads, so that a start is paid once per session.
        A reader that fails, hangs or dies costs its own row only; a failing network limit costs the ratios.

        Raises
        ------
        StoreError
            The embedded store is not running, or ended: nothing can be measured.
        Interrupted
            Ctrl-C came after a round; it has the rows with the samples of the rounds that were finished.
        """
        rows = [self._rows(workload) for workload in workloads]
        try:
            for session in range(1, self._plan.sessions + 1):
                self._begin(session)
                for workload, of in zip(workloads, rows, strict=True):
                    self._measure(workload, of)
        except KeyboardInterrupt as stop:
            if any(row.samples for of in rows for row in of.values()):
                raise Interrupted([list(of.values()) for of in rows]) from stop
            raise
        return [list(of.values()) for of in rows]

    def _begin(self, session: int) -> None:
        """Begin a session with fresh processes; in the first one those that are there already go on."""
        self._session = session
        if session > 1:
            self._stop()

    def _rows(self, workload: Workload) -> dict[str, Row]:
        seen, floor = let_in(self._environment), floor_of(workload)
        return {
            name: Row(reader=name, workload=workload, environment=seen, floor_seconds=floor)
            for name in (*self._readers, NETWORK_LIMIT)
        }

    def _measure(self, workload: Workload, rows: dict[str, Row]) -> None:
        """Let readers take turns on a workload for one session."""
        rotation = self._rotation_of(workload)
        with Probe(workload.target) as probe:
            opened = self._open_workers(workload, rows)
            for row in rows.values():
                row.network, row.seconds = probe.network, 0.0
                self._open(row, opened, probe)
            self._tell_of_missing(rows)
            self._rotation = rotation  # not before: candidates for the limit compete on the same objects
            probe.round_number = _last_round(rows.values())
            begin, rounds = time.monotonic(), 0
            while not self._plan.enough(rounds, time.monotonic() - begin) and self._left(rows):
                rounds += 1
                probe.round_number += 1
                with whole_round([row.samples for row in rows.values()], probe.round_number):
                    self._round(rows, probe)
                self._tell_of_round(workload, rows, rounds, probe.round_number)
        self._rotation = None

    def _rotation_of(self, workload: Workload) -> Rotation | None:
        """Return the other objects that cold executions read; None where none were asked for, or there are too few."""
        if self._plan.cold and workload.digest not in self._rotations:
            turns = len(self._readers) + math.ceil(len(self._readers) / self._plan.readers_between_limits) + 1
            try:
                self._rotations[workload.digest] = Rotation(workload, turns)
            except UnsupportedError as reason:
                self._rotations[workload.digest] = None
                _log.warning(f"{workload.label}: measured hot: {reason}")
        return self._rotations.get(workload.digest)

    def _tell_of_round(self, workload: Workload, rows: Mapping[str, Row], rounds: int, number: int) -> None:
        plan = self._plan
        done = (self._session - 1) * plan.rounds_of_session + rounds
        of_session = f" of session {self._session}" if plan.sessions > 1 else ""
        said = f"{workload.label}: round {rounds}{of_session}: {_summary(rows.values(), number)}"
        log.report(_log, said, step=workload.label, share=done / (plan.sessions * plan.rounds_of_session))

    def _left(self, rows: dict[str, Row]) -> bool:
        """Whether any reader is still worth a round; the limit alone is so only when nothing else was asked for."""
        left = [rows[name] for name in self._readers or [NETWORK_LIMIT] if rows[name].measured]
        return any(not self._sits_out(row) for row in left)

    def _sits_out(self, row: Row) -> bool:
        """Whether a reader has had its time: one that is slow by itself must not stretch every pass."""
        return row.seconds > 0 and row.reader != NETWORK_LIMIT and row.seconds >= self._plan.patience

    def _round(self, rows: dict[str, Row], probe: Probe) -> None:
        order = [name for name in self._readers if rows[name].measured and not self._sits_out(rows[name])]
        self._random.shuffle(order)
        before = self._turn(rows[NETWORK_LIMIT], probe)
        for names in itertools.batched(order, self._plan.readers_between_limits):
            samples = [self._turn(rows[name], probe) for name in names]
            after = self._turn(rows[NETWORK_LIMIT], probe)
            for sample in filter(None, samples):
                attach_limit(sample, before, after)
            before = after

    def _turn(self, row: Row, probe: Probe) -> Sample | None:
        """Take and record one sample; None when the row has failed."""
        if not row.measured:
            return None
        candidate = row.candidate
        assert candidate is not None  # noqa: S101 - a row without one is not measured
        begin = time.monotonic()
        with self._guard(row, candidate.reader, probe):
            sample = self._execute(row, candidate, probe)
            sample.session, sample.round_number = self._session, probe.round_number
            sample.cold = bool(sample.cold)
            if self._plan.cold and not sample.cold:
                sample.flags.append(FLAG_HOT)
            row.samples.append(sample)
            row.seconds += time.monotonic() - begin
            self._tell_of_others(row)
            return row.samples[-1]
        return None

    def _tell_of_others(self, row: Row) -> None:
        """Say while it happens, once per workload, that other programs disturb its figures."""
        sample = row.samples[-1]
        if FLAG_BUSY_MACHINE in sample.flags and row.workload is not self._told_of_others:
            self._told_of_others = row.workload
            _log.warning(
                f"{row.workload.label}: other programs keep {sample.other_cores:.1f} of {allowed_cores()} cores busy: "
                "figures of this workload are disturbed"
            )

    def _tell_of_missing(self, rows: dict[str, Row]) -> None:
        """Say once that a client of the limit is missing: ratios to what is left of it are not those of other runs."""
        reason = rows[NETWORK_LIMIT].missing
        if reason is not None and reason not in self._told_of_missing and self._left(rows):
            self._told_of_missing.add(reason)
            _log.warning(f"{NETWORK_LIMIT}: one of its clients is missing, and it may be slower for that: {reason}")

    def _execute(self, row: Row, candidate: Candidate, probe: Probe) -> Sample:
        """Return the sample of a warm execution: the second, or the first where it needed no new connection.

        An execution that alone takes a reader's time is not repeated, and keeps its mark.
        """
        if candidate.reader not in self._workers:  # another variant of it has failed
            self._ask_open(candidate.reader, row.workload)
        if self._rotation is not None:
            return self._cold(row, candidate, probe, self._rotation)
        if self._plan.always_discards or not probe.sees_connections:
            self._warm_up(row, candidate)
            return self._sample(row, candidate, probe)
        sample = self._sample(row, candidate, probe)
        if not sample.new_connections or sample.seconds >= self._plan.patience:
            return sample
        return self._sample(row, candidate, probe)

    def _cold(self, row: Row, candidate: Candidate, probe: Probe, rotation: Rotation) -> Sample:
        """Return the sample of an execution that reads what nobody has read in this round, warmed up elsewhere."""
        objects = rotation.next()
        self._select(candidate, rotation.warm_up)
        self._warm_up(row, candidate)
        self._select(candidate, objects)
        sample = self._sample(row, candidate, probe, objects)
        sample.cold = True
        return sample

    def _select(self, candidate: Candidate, workload: Workload) -> None:
        """Let a worker read another workload of its array from now on."""
        request = {"op": "select", "workload": msgspec.to_builtins(workload)}
        self._workers[candidate.reader].require(request, timeout=OPEN_SECONDS)

    def _warm_up(self, row: Row, candidate: Candidate) -> None:
        warm_up(self._workers[candidate.reader], candidate, row.workload, self._plan.deadline_seconds)

    def _sample(self, row: Row, candidate: Candidate, probe: Probe, workload: Workload | None = None) -> Sample:
        return executed(
            self._workers[candidate.reader],
            candidate,
            workload or row.workload,
            probe,
            deadline=self._plan.deadline_seconds,
            with_faults=self._plan.with_faults,
        )

    def _open_workers(self, workload: Workload, rows: Mapping[str, Row]) -> dict[str, Future[dict[str, Any]]]:
        """Let all workers open a workload at once, since importing a library takes most of it; return their answers."""
        opened: dict[str, Future[dict[str, Any]]] = {}
        with ThreadPoolExecutor(math.ceil(allowed_cores())) as threads:
            for name in (name for row in rows.values() if row.measured for name in _workers_of(row)):
                try:
                    self._start(name, workload)  # from this thread: a worker ends with the one that started it
                    opened[name] = threads.submit(self._ask_open, name, workload)
                except (UnsupportedError, ZcbError, OSError) as error:  # `_open` tells them apart
                    opened[name] = Future()
                    opened[name].set_exception(error)
        return opened

    def _open(self, row: Row, opened: Mapping[str, Future[dict[str, Any]]], probe: Probe) -> None:
        """Open the row's workload and, in the first session, settle who measures it; it fails when nobody can."""
        if not row.measured:
            return
        if row.candidate is not None:
            with self._guard(row, row.candidate.reader, probe):
                opened[row.candidate.reader].result()
            return
        versions: dict[Candidate, dict[str, str]] = {}
        for name in clients(row.reader):
            with self._guard(row, name, probe):
                answer = opened[name].result()
                installed = told(answer, "versions", dict[str, str])
                versions |= {Candidate(name, variant): installed for variant in told(answer, "variants", list[str])}
        if not versions:
            return
        row.missing, row.na, row.error = row.na, None, None  # another client of the limit will do
        best = self._fastest(row, list(versions), probe)
        if best is not None:
            row.candidate = best
            row.versions, row.variant = versions[best], str(best) if len(versions) > 1 else ""
            row.settings = given_for(reader_class(best.reader), row.workload).all

    def _fastest(self, row: Row, candidates: Sequence[Candidate], probe: Probe) -> Candidate | None:
        """Return the candidate that is to take the row's samples; None when all fail."""

        def seconds_of(candidate: Candidate) -> float | None:
            tried = Row(reader=row.reader, workload=row.workload)
            with self._guard(tried, candidate.reader, probe):
                return self._execute(tried, candidate, probe).seconds
            row.error = tried.error
            return None

        patience = self._plan.reader_seconds or math.inf
        best = fastest(candidates, seconds_of, probe, trials=self._plan.trials, patience=patience)
        if best is not None:
            row.error = None
        return best

    def _ask_open(self, reader: str, workload: Workload) -> dict[str, Any]:
        self._start(reader, workload)
        return self._workers[reader].open(workload, timeout=OPEN_SECONDS)

    def _start(self, reader: str, workload: Workload) -> None:
        """Start a reader's process where there is none with the settings that it is to have for a workload."""
        given = given_for(reader_class(reader), workload)
        if reader in self._workers and self._workers[reader].given != given:
            self._workers.pop(reader).stop()
        if reader not in self._workers:
            self._workers[reader] = WorkerProcess(reader_class(reader), self._environment, given)

    @contextlib.contextmanager
    def _guard(self, row: Row, worker: str, probe: Probe) -> Iterator[None]:
        """Let a failure cost one row: no sample of it counts, and the next workload gets a fresh worker."""
        try:
            probe.watch()
            yield
        except UnsupportedError as reason:
            row.na = str(reason)
        except (ZcbError, OSError) as error:
            trouble = probe.trouble()
            row.fail(f"{error}{trouble}")
            _log.warning(f"{row.workload.label}: {worker} failed: {row.error}")
            if worker in self._workers:
                self._workers.pop(worker).stop()


def _workers_of(row: Row) -> list[str]:
    """Return the readers whose workers a row needs: all that may take its samples until it is settled who does."""
    return clients(row.reader) if row.candidate is None else [row.candidate.reader]


def _last_round(rows: Iterable[Row]) -> int:
    return max((sample.round_number or 0 for row in rows for sample in row.samples), default=0)


def _summary(rows: Iterable[Row], number: int) -> str:
    """Return what each row that had its turn in a round took, the median of its turns."""
    turns = ((row.reader, [s.seconds for s in row.samples if s.round_number == number]) for row in rows)
    said = [f"{reader} {statistics.median(seconds) * 1e3:.0f} ms" for reader, seconds in turns if seconds]
    return ", ".join(said) or "nothing measured"
