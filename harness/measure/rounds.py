"""Points of a sweep, measured beside each other: in every round each point has one turn, in shuffled order.

So drift of the machine hits all points alike, and all executions of a round get the same draws of the store's service
time. Each point has a process of its own, since many settings hold until a process ends.
"""

import contextlib
import logging
import math
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from harness.errors import UnsupportedError, ZcbError
from harness.machine import log
from harness.machine.cpu import allowed_cores
from harness.machine.interrupts import Interrupted
from harness.measure.evidence import Probe
from harness.measure.execution import OPEN_SECONDS, Candidate, executed, fastest, turn_deadline
from harness.measure.process import WorkerProcess, told
from harness.readers import clients, reader_class
from harness.readers.settings import Given, Value, given
from harness.readers.tunings import given_for
from harness.results.sample import Sample
from harness.results.text import number
from harness.workload.model import Workload

_log = logging.getLogger(__name__)

_WORTH_A_LINE = 5.0
"""Seconds of an execution after which whoever watches hears of it: a round of such ones takes minutes."""
_TRIALS = 3
"""Executions of each client and plan of the network limit, of which the fastest measures."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one process of a sweep does."""

    reader: str
    workload: Workload
    chosen: Mapping[str, Value] = MappingProxyType({})
    """Settings in the place of its documentation's, by name; a reader with ``+tuned`` has those of its search."""
    environment: Mapping[str, str] = MappingProxyType({})
    """Variables that its process has beside those of all."""
    cpus: frozenset[int] | None = None
    """The processors that it may run on; None are those of this process."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How much to measure."""

    samples: int
    """Rounds in all sessions together; each session takes an equal number, rounded up."""
    sessions: int = 1
    """Fresh processes of each point."""
    patience: float = math.inf
    """Seconds that a point's turns may take in a session before it sits the session's other rounds out."""


@dataclass(kw_only=True)
class Measured:
    """What was measured of a point: samples, or why there are none."""

    point: Point
    versions: dict[str, str] = field(default_factory=dict)
    variant: str = ""
    """Of the network limit: the client and plan that measured, e.g. ``network-limit exact``."""
    samples: list[Sample] = field(default_factory=list)
    na: str | None = None
    error: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether turns still make sense."""
        return self.na is None and self.error is None


def take(
    points: Sequence[Point],
    rounds: Rounds,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    label: str = "",
) -> list[Measured]:
    """Measure points of one target in shuffled rounds and return what came of each, in their order.

    A point that fails costs its own samples only.

    Parameters
    ----------
    points
        All on the same target; their processes are there at the same time.
    rounds
        How much to measure.
    environment
        Variables of all processes beside those of a sealed environment.
    label
        What is measured, for who watches.

    Raises
    ------
    BadUseError
        The embedded store was asked to inject faults.
    StoreError
        The embedded store is not running, or ended.
    Interrupted
        Ctrl-C came; it has the samples of the rounds that were finished.
    """
    seats = [_Seat(point, Measured(point=point)) for point in points]
    found = [seat.found for seat in seats]
    with Probe(points[0].workload.target) as probe:
        probe.demand_no_faults()
        try:
            _Table(seats, rounds, environment, probe, label).run()
        except KeyboardInterrupt as stop:
            raise Interrupted(found) from stop
    return found


@contextlib.contextmanager
def whole_round(samples: Sequence[list[Sample]], number: int) -> Iterator[None]:
    """Let Ctrl-C leave no samples of a round that it ends: what is shown then has equally many of each."""
    try:
        yield
    except KeyboardInterrupt:
        for of in samples:
            of[:] = [sample for sample in of if sample.round_number != number]
        raise


class _Seat:
    """A point with its processes: one, or the network limit's clients."""

    def __init__(self, point: Point, found: Measured) -> None:
        self.point, self.found = point, found
        self.workers: dict[str, WorkerProcess] = {}
        self.candidate: Candidate | None = None
        self.is_fresh, self.seconds = True, 0.0

    @property
    def readers(self) -> list[str]:
        """The readers whose processes may take its samples."""
        return clients(self.point.reader) if self.candidate is None else [self.candidate.reader]

    def start(self, environment: Mapping[str, str]) -> None:
        """Start its processes, from the thread that will end after them."""
        self.is_fresh, self.seconds = True, 0.0
        with _running_on(self.point.cpus):
            for name in self.readers:
                own = {**environment, **self.point.environment}
                self.workers[name] = WorkerProcess(reader_class(name), own, _given(name, self.point))

    def stop(self) -> None:
        """End its processes."""
        for worker in self.workers.values():
            worker.stop()
        self.workers.clear()


def _given(name: str, point: Point) -> Given:
    reader = reader_class(name)
    if reader.tuned_of is not None:
        return given_for(reader, point.workload)
    return given(reader.settings, point.chosen, in_flight=point.workload.in_flight)


@contextlib.contextmanager
def _running_on(cpus: frozenset[int] | None) -> Iterator[None]:
    """Let this thread, and so what it starts, run on some processors only."""
    before = os.sched_getaffinity(0)
    if cpus is not None:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Table:
    """Lets the points at their seats take turns."""

    def __init__(
        self, seats: Sequence[_Seat], rounds: Rounds, environment: Mapping[str, str], probe: Probe, label: str
    ) -> None:
        self._seats, self._rounds, self._probe = seats, rounds, probe
        self._environment, self._label = environment, label
        self._random = random.Random(0)  # noqa: S311 - an order of turns

    def run(self) -> None:
        """Take all rounds of all sessions."""
        of_session = math.ceil(self._rounds.samples / self._rounds.sessions)
        for session in range(1, self._rounds.sessions + 1):
            try:
                self._open()
                for count in range(1, of_session + 1):
                    self._probe.round_number += 1
                    with whole_round([seat.found.samples for seat in self._seats], self._probe.round_number):
                        self._round(session)
                    done = (session - 1) * of_session + count
                    self._tell(done, self._rounds.sessions * of_session)
            finally:
                for seat in self._seats:
                    seat.stop()

    def _tell(self, done: int, of: int) -> None:
        said = f"{self._label}: round {done} of {of}"
        log.report(_log, said, step=self._label, share=done / of)

    def _open(self) -> None:
        """Start all processes and let them open their workloads at once: importing a library takes most of it."""
        with ThreadPoolExecutor(math.ceil(allowed_cores())) as threads:
            opening: dict[int, dict[str, Future[dict[str, Any]]]] = {}
            for place, seat in enumerate(self._seats):
                if not seat.found.goes_on:
                    continue
                with self._guard(seat):
                    seat.start(self._environment)
                    opening[place] = {
                        name: threads.submit(worker.open, seat.point.workload, timeout=OPEN_SECONDS)
                        for name, worker in seat.workers.items()
                    }
        for place, answers in opening.items():
            self._settle(self._seats[place], answers)

    def _settle(self, seat: _Seat, answers: Mapping[str, Future[dict[str, Any]]]) -> None:
        """Note what a seat reads with; the first time, find out who is to measure it."""
        variants: list[Candidate] = []
        for name, answer in answers.items():
            with self._guard(seat):
                opened = answer.result()
                seat.found.versions |= told(opened, "versions", dict[str, str])
                variants += [Candidate(name, variant) for variant in told(opened, "variants", list[str])]
        if not seat.found.goes_on or seat.candidate is not None:
            return
        with self._guard(seat):
            seat.candidate = fastest(
                variants,
                lambda variant: self._executed(seat, variant).seconds,
                self._probe,
                trials=_TRIALS,
                patience=self._rounds.patience,
            )
            seat.found.variant = str(seat.candidate) if len(variants) > 1 else ""

    def _round(self, session: int) -> None:
        turns = [seat for seat in self._seats if seat.found.goes_on and not self._sits_out(seat)]
        self._random.shuffle(turns)
        for seat in turns:
            begin = time.monotonic()
            with self._guard(seat):
                sample = self._warm(seat)
                sample.session, sample.round_number = session, self._probe.round_number
                seat.found.samples.append(sample)
            seat.seconds += time.monotonic() - begin

    def _sits_out(self, seat: _Seat) -> bool:
        return seat.seconds > 0 and seat.seconds >= self._rounds.patience  # the first turn is never sat out

    def _warm(self, seat: _Seat) -> Sample:
        """Return the sample of a warm execution: the second of a fresh process, or where a connection was new.

        An execution that alone takes a point's time is not repeated, and keeps its mark.
        """
        assert seat.candidate is not None  # noqa: S101 - nobody takes a turn before it is settled
        sample = self._executed(seat, seat.candidate)
        cold = seat.is_fresh or sample.new_connections or not self._probe.sees_connections
        seat.is_fresh = False
        if not cold or sample.seconds >= self._rounds.patience:
            return sample
        return self._executed(seat, seat.candidate)

    def _executed(self, seat: _Seat, candidate: Candidate) -> Sample:
        work = seat.point.workload
        sample = executed(seat.workers[candidate.reader], candidate, work, self._probe, deadline=_deadline(work))
        if sample.seconds >= _WORTH_A_LINE:
            _log.info(f"{self._label}: {candidate}, {work.in_flight} in flight: {number(sample.seconds)} s")
        return sample

    @contextlib.contextmanager
    def _guard(self, seat: _Seat) -> Iterator[None]:
        """Let a failure cost one point: no sample of it counts."""
        try:
            self._probe.watch()
            yield
        except UnsupportedError as reason:
            seat.found.na = str(reason)
            seat.stop()
        except (ZcbError, OSError) as error:
            seat.found.error = f"{error}{self._probe.trouble()}"
            seat.found.samples.clear()
            _log.warning(f"{seat.point.workload.label}: {seat.point.reader} failed: {seat.found.error}")
            seat.stop()


def _deadline(workload: Workload) -> float:
    """Return the seconds after which an execution counts as hanging: few in flight wait long for each other."""
    return turn_deadline(workload) + workload.wanted_chunks / workload.in_flight
