"""A timeline in figures and one sentence: times the optimum, and where the difference is."""

import statistics
from collections.abc import Iterator

import msgspec

from harness.timeline.model import Chunk, Repeats, Timeline
from harness.timeline.schedule.critical import PATH_STAGES, critical_path, last_event
from harness.timeline.schedule.optimum import optimum
from harness.timeline.schedule.stages import STAGES, durations, in_flight

_NAMED = 3
_LEAST_SHARE = 0.05
_MOST = 0.5


OPTIMUM_IS = "Optimum: computed, this recording's own requests, none in another's way."
LIMIT_IS = "Network limit: measured, what is wanted fetched without decoding, by the fastest of its plans."


class StageTime(msgspec.Struct, frozen=True, kw_only=True):
    """Time that chunks spent in a stage."""

    seconds: float
    """Sum over all chunks, many at once."""
    median_seconds: float


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """What a timeline says."""

    seconds: float
    """From the call to its return, recorder included."""
    best: Timeline
    """The optimal schedule."""
    stages: dict[str, StageTime]
    """Of the stages whose events are known."""
    critical_seconds: dict[str, float]
    """Stage of the critical path -> wall time; their sum is `seconds`."""
    cause: str | None
    """Why the critical chunk waited for its decode."""
    in_flight: int
    """Most requests under way at once, as the reader saw them."""
    wanted_bytes: int
    """Stored bytes of the chunks wanted."""
    fetched_bytes: int
    """Bytes of the data requests' bodies; indexes and metadata apart."""
    index_bytes: int
    """Those of all other requests' bodies."""
    on_wire: bool
    """Whether packets tell when bytes arrived, and not only when the reader noticed."""
    repeats: Repeats | None = None
    """Of the other recordings of the same; None without any."""

    @property
    def optimum_seconds(self) -> float:
        """What the optimal schedule takes."""
        return (self.best.end_ns - self.best.begin_ns) / 1e9

    @property
    def times_optimum(self) -> float | None:
        """How many times longer than the optimal schedule; near 1 there is little to gain.

        None without the wire: what a reader noticed late would count as the network's time, and flatter it.
        """
        if not self.on_wire:
            return None
        return self.seconds / self.optimum_seconds if self.optimum_seconds else float("inf")

    @property
    def sentence(self) -> str:
        """The result in a line."""
        shares = sorted(((ns / self.seconds, stage) for stage, ns in self.critical_seconds.items()), reverse=True)
        named = [self._share(share, stage) for share, stage in shares[:_NAMED] if share >= _LEAST_SHARE]
        return f"{self.seconds * 1e3:.1f} ms, {self._times()}{self._range()}: {', '.join(named)}"

    def _times(self) -> str:
        if self.times_optimum is None:
            return "times the optimum n/a without the wire"
        return f"{self.times_optimum:.2f}x the optimum of {self.optimum_seconds * 1e3:.1f} ms"

    def _range(self) -> str:
        """Return between what all recordings lay, where there are several."""
        if self.repeats is None or not self.repeats.times_optimum:
            return ""
        low, high = min(self.repeats.times_optimum), max(self.repeats.times_optimum)
        return f" ({low:.2f}x to {high:.2f}x in {len(self.repeats.times_optimum)} recordings)"

    def _share(self, share: float, stage: str) -> str:
        why = f" {self.cause}" if stage == "decode_wait" and self.cause else ""
        return f"{share:.0%} {PATH_STAGES[stage]}{why}"


def analyse(timeline: Timeline) -> Analysis:
    """Return what a timeline says."""
    critical: dict[str, float] = {}
    for step in critical_path(timeline):
        critical[step.stage] = critical.get(step.stage, 0) + (step.end_ns - step.begin_ns) / 1e9
    return Analysis(
        seconds=(timeline.end_ns - timeline.begin_ns) / 1e9,
        best=best_schedule(timeline),
        stages=_stages(timeline),
        critical_seconds=critical,
        cause=_cause(timeline),
        in_flight=_most_in_flight(timeline),
        wanted_bytes=sum(chunk.length for chunk in timeline.chunks),
        fetched_bytes=sum(request.bytes or 0 for request in timeline.requests if request.kind == "data"),
        index_bytes=sum(request.bytes or 0 for request in timeline.requests if request.kind != "data"),
        on_wire=timeline.capture is not None,
        repeats=timeline.repeats,
    )


def best_schedule(timeline: Timeline) -> Timeline:
    """Return the optimal schedule with the workload's requests in flight, or those that the reader had if more."""
    allowed = int(timeline.workload.get("in_flight") or max(1, len(timeline.requests)))
    return optimum(timeline, in_flight=max(allowed, _most_in_flight(timeline)), cores=timeline.cores)


def _most_in_flight(timeline: Timeline) -> int:
    return max((number for _, number in in_flight(timeline.requests)), default=0)


def _stages(timeline: Timeline) -> dict[str, StageTime]:
    found: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for chunk in timeline.chunks:
        for stage, ns in durations(chunk, timeline.begin_ns).items():
            found[stage].append(ns / 1e9)
    return {
        stage: StageTime(seconds=sum(seconds), median_seconds=statistics.median(seconds))
        for stage, seconds in found.items()
        if seconds
    }


def _cause(timeline: Timeline) -> str | None:
    """Return what the chunk that was complete last waited for before its decode."""
    last = max(timeline.chunks, key=last_event, default=None)
    if last is None or last.last_byte_ns is None or last.decode_start_ns is None:
        return None
    begin, end = last.last_byte_ns, last.decode_start_ns
    if end == begin:
        return None
    others = [chunk for chunk in timeline.chunks if chunk is not last]
    shard = max((c.last_byte_ns or 0 for c in others if c.key == last.key), default=0)
    if (min(shard, end) - begin) / (end - begin) > _MOST:
        return "until its shard was complete"
    if last.thread is not None and _covered(_decodes(others, last.thread), begin, end) / (end - begin) > _MOST:
        return "while its thread decoded others"
    return None


def _decodes(chunks: list[Chunk], thread: int) -> Iterator[tuple[int, int]]:
    for chunk in chunks:
        if chunk.thread == thread and chunk.decode_start_ns is not None and chunk.decoded_ns is not None:
            yield chunk.decode_start_ns, chunk.decoded_ns


def _covered(intervals: Iterator[tuple[int, int]], begin: int, end: int) -> int:
    """Return how much of ``begin .. end`` the intervals cover together."""
    covered, reached = 0, begin
    for first, last in sorted(intervals):
        first, last = max(first, reached), min(last, end)
        if last > first:
            covered, reached = covered + last - first, last
    return covered
