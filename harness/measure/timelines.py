"""The conductor's part in a timeline: one recorded execution between counters, checked, with what recording costs."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import MappingProxyType, TracebackType
from typing import Any

from harness.errors import UnsupportedError
from harness.measure.evidence import Probe
from harness.measure.execution import OPEN_SECONDS, Candidate, fastest, turn_deadline
from harness.measure.floor import service_of
from harness.measure.process import WorkerProcess, told
from harness.readers import reader_class
from harness.readers.tunings import given_for
from harness.results.sample import Timed
from harness.store.control import StoreCounters
from harness.store.state import Profile
from harness.targets.target import Target
from harness.timeline import overhead
from harness.timeline.linking import Decode, link, link_decodes
from harness.timeline.model import Repeats, Timeline
from harness.timeline.schedule import analyse
from harness.timeline.validity import validate, wanted
from harness.timeline.wire import Captured, from_wire, merge, why_not
from harness.timeline.wire import capture as capture_packets
from harness.workload.model import Workload

_log = logging.getLogger(__name__)

StartCapture = Callable[[Target], AbstractContextManager[Captured]]


def record_timeline(
    reader: str,
    workload: Workload,
    *,
    pairs: int = overhead.DEFAULT_PAIRS,
    capture: StartCapture | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Timeline:
    """Record one execution of `workload` and check it; look at `valid` before believing it.

    Nothing measured here is a throughput figure: the recorded execution carries the recorder.

    Parameters
    ----------
    reader
        Name of the reader.
    workload
        What it reads.
    pairs
        Pairs of recorded and plain executions that show the cost of recording; 0 leaves it unknown.
    capture
        Starts a packet capture of a target; None records what the reader itself can tell.
    environment
        Variables of its process beside those of a sealed environment.

    Raises
    ------
    MeasurementError
        The reader failed, or returned a wrong array.
    UnsupportedError
        The reader cannot do the workload, or has no hooks and there is no capture.
    BadUseError
        The store injects faults.
    """
    with Probe(workload.target) as probe:
        probe.demand_no_faults()
        with _Session(reader, workload, probe, environment, capture) as session:
            timeline = session.record()
            timeline.valid = validate(timeline, wanted(workload), counted=session.counted)
            if timeline.valid.ok and session.has_hooks and pairs:
                _log.info(f"{workload.label}: {reader} recorded; {pairs} pairs of recorded and plain executions follow")
                timeline.overhead = overhead.measure(pairs, plain=session.plain, recorded=session.recorded)
            return timeline


def record_with_wire(
    reader: str,
    workload: Workload,
    *,
    pairs: int,
    wire: bool = True,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Timeline:
    """Record as `record_timeline` does, with a packet capture where that is possible, and a note why where it is not.

    Parameters
    ----------
    reader, workload, pairs, environment
        As there.
    wire
        Whether to capture packets at all.
    """
    without = why_not(workload.target) if wire else "no packets were captured (--no-wire)"
    try:
        capture = None if without else capture_packets
        timeline = record_timeline(reader, workload, pairs=pairs, capture=capture, environment=environment)
    except UnsupportedError as reason:
        raise UnsupportedError(f"{reason}; {without}" if without else str(reason)) from reason
    if without:
        timeline.notes.append(f"no wire times: {without}")
    return timeline


def record_several(record: Callable[[int], Timeline], *, recordings: int, pairs: int) -> list[Timeline]:
    """Record the same several times, each time in a fresh process; return the recordings, the middle one first.

    The one in the middle knows of all (`Timeline.repeats`). A recording that is not valid comes back alone: the others
    are then worth nothing beside it.

    Parameters
    ----------
    record
        Records once, with so many pairs of recorded and plain executions.
    recordings
        How often.
    pairs
        Of the first recording; what recording costs need not be shown again.
    """
    taken: list[Timeline] = []
    for number in range(recordings):
        taken.append(record(0 if number else pairs))
        if not taken[-1].valid.ok:
            return taken[-1:]
    analyses = {id(one): analyse(one) for one in taken}
    ordered = sorted(taken, key=lambda one: analyses[id(one)].seconds)
    middle = ordered[(len(ordered) - 1) // 2]
    middle.overhead = taken[0].overhead
    if recordings > 1:
        middle.repeats = Repeats(
            seconds=[analyses[id(one)].seconds for one in taken],
            times_optimum=[times for one in taken if (times := analyses[id(one)].times_optimum) is not None],
        )
    return [middle, *(one for one in taken if one is not middle)]


class _Session:
    """A reader's worker with a workload opened; each execution is warmed up by a discarded one."""

    def __init__(
        self,
        reader: str,
        workload: Workload,
        probe: Probe,
        environment: Mapping[str, str],
        capture: StartCapture | None,
    ) -> None:
        self._environment = environment
        self._start_capture = capture
        self._captured: Captured | None = None
        self._workload = workload
        self._probe = probe
        self._deadline = turn_deadline(workload)
        self._reader = reader
        self.has_hooks = True
        self.counted: StoreCounters | None = None
        """What the store counted in the last execution."""

    def __enter__(self) -> "_Session":
        reader = reader_class(self._reader)
        given = given_for(reader, self._workload)
        with ExitStack() as capturing:
            # From before its first connection on: what is encrypted can be read only from its beginning.
            if self._start_capture is not None:
                self._captured = capturing.enter_context(self._start_capture(self._workload.target))
            self._worker = WorkerProcess(reader, self._environment, given)
            self._open()
            self._capturing = capturing.pop_all()
        return self

    def _open(self) -> None:
        try:
            answer = self._worker.open(self._workload, timeout=OPEN_SECONDS)
            self._versions = told(answer, "versions", dict[str, str])
            self._variant = self._fastest(told(answer, "variants", list[str]))
        except BaseException:
            self._worker.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.stop()
        self._capturing.__exit__(kind, error, trace)

    def _fastest(self, variants: Sequence[str]) -> str:
        """Return the way to read that takes least, tried once each: what is measured is the fastest, by more tries."""
        ways = [Candidate(self._reader, variant) for variant in variants or [""]]
        best = fastest(ways, lambda way: self._tried(way.variant), self._probe, trials=1, patience=0)
        return "" if best is None else best.variant

    def _tried(self, variant: str) -> float:
        self._variant = variant
        return self.plain()

    def record(self) -> Timeline:
        """Execute once, recorded by all means there are."""
        try:
            self._warm_up("timeline")
        except UnsupportedError:
            if self._start_capture is None:
                raise
            if reader_class(self._reader).stored_as is not None:
                raise UnsupportedError("the objects that it asks for have names that say nothing of shards") from None
            self.has_hooks = False
            self._warm_up("sample")
        if self._captured is not None:
            self._captured.begin()
        answer = self._execute("timeline" if self.has_hooks else "sample")
        self._capturing.close()
        if self.has_hooks:
            timeline = answered(answer, self._workload)
            timeline = timeline if self._captured is None else merge(timeline, self._captured)
        else:
            assert self._captured is not None  # noqa: S101 - otherwise the reason was raised above
            timeline = from_wire(self._workload, self._captured)
        if self._variant:
            timeline.notes.append(f"of its plans this is {self._variant!r}, the fastest by one try of each")
        return with_header(timeline, self._workload, reader=self._reader, versions=self._versions)

    def plain(self) -> float:
        """Execute without recorder and return the seconds."""
        self._warm_up("sample")
        return told(self._execute("sample"), "timed", Timed).seconds

    def recorded(self) -> float:
        """Execute with the recorder and return the seconds."""
        self._warm_up("timeline")
        timeline = told(self._execute("timeline"), "timeline", Timeline)
        return (timeline.end_ns - timeline.begin_ns) / 1e9

    def _warm_up(self, operation: str) -> None:
        self._ask(operation, discard=True)

    def _execute(self, operation: str) -> dict[str, Any]:
        self._probe.begin()
        answer = self._ask(operation)
        self.counted = self._probe.end().store
        return answer

    def _ask(self, operation: str, **options: bool) -> dict[str, Any]:
        return self._worker.require({"op": operation, "variant": self._variant, **options}, timeout=self._deadline)


def answered(answer: dict[str, Any], workload: Workload) -> Timeline:
    """Return the timeline that a worker answered, chunks linked to what the worker could not name.

    Raises
    ------
    MeasurementError
        It is no timeline.
    """
    timeline = told(answer, "timeline", Timeline)
    if answer.get("decodes") is not None:
        link(timeline, wanted(workload))
        link_decodes(timeline, told(answer, "decodes", list[Decode]), workload)
    return timeline


def with_header(timeline: Timeline, workload: Workload, *, reader: str, versions: dict[str, str]) -> Timeline:
    """Return the timeline with what only the conductor knows of it."""
    timeline.reader, timeline.versions = reader, versions
    timeline.workload = workload.summary() | {"label": workload.label}
    timeline.target = workload.target.identity
    _put_rates(timeline, service_of(workload))
    return timeline


def _put_rates(timeline: Timeline, service: Profile | None) -> None:
    """Note what the link and each connection to the embedded store carry; nothing is known elsewhere."""
    if service is None:
        return
    link, connection = service.link_bytes_per_second, service.connection_bytes_per_second
    timeline.link_bytes_per_second = link if math.isfinite(link) else None
    timeline.connection_bytes_per_second = min(link, connection) if math.isfinite(min(link, connection)) else None
