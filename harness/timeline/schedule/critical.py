"""The critical path: what the read was waiting for at each moment, from its end back to its beginning."""

from bisect import bisect_right
from typing import NamedTuple

from harness.timeline.model import EVENTS, Chunk, Request, Timeline
from harness.timeline.schedule.stages import STAGES, spans

PATH_STAGES = STAGES | {
    "index": "shard indexes",
    "metadata": "HEADs and metadata",
    "start": "before the first request",
    "return": "after the last chunk",
}
"""Stage of a step -> its name for people."""


class Step(NamedTuple):
    """A part of the critical path; steps follow each other without gaps."""

    stage: str
    begin_ns: int
    end_ns: int
    chunk: tuple[int, ...] | None = None
    request: int | None = None


def critical_path(timeline: Timeline) -> list[Step]:
    """Return the steps from the call to its return: the chunk complete last, and what it stood behind.

    What came before a request is taken to be the request that ended last before it was sent: it brought the index,
    or it held the place in flight.
    """
    steps: list[Step] = []
    cursor = timeline.end_ns
    last = max(timeline.chunks, key=last_event, default=None)
    if last is not None:
        done = last_event(last)
        steps.append(Step("return", done, cursor))
        steps += [step for step in reversed(_stages_of(last, timeline)) if step.stage != "send_wait"]
        cursor = done if last.sent_ns is None else last.sent_ns
    steps += _steps_before(timeline, cursor)
    return [step for step in reversed(steps) if step.end_ns > step.begin_ns]


def _stages_of(chunk: Chunk, timeline: Timeline) -> list[Step]:
    """Return a chunk's stages; in a merged range the bytes before its own are transfer, not the wait for an answer."""
    answered = next((_answered_ns(request) for request in timeline.requests if request.id == chunk.request), None)
    steps = []
    for stage, begin, end in spans(chunk, timeline.begin_ns):
        if stage == "first_byte" and answered is not None and begin < answered < end:
            steps.append(Step(stage, begin, answered, chunk=chunk.chunk, request=chunk.request))
            stage, begin = "transfer", answered
        steps.append(Step(stage, begin, end, chunk=chunk.chunk, request=chunk.request))
    return steps


def last_event(chunk: Chunk) -> int:
    """Return the time of a chunk's last known event, 0 without any."""
    return max((time for event in EVENTS if (time := getattr(chunk, event)) is not None), default=0)


def _steps_before(timeline: Timeline, cursor: int) -> list[Step]:
    """Return the steps before `cursor`, latest first."""
    ended = sorted(
        (request for request in timeline.requests if request.sent_ns is not None and request.last_byte_ns is not None),
        key=_ended_ns,
    )
    ends = [_ended_ns(request) for request in ended]
    steps = []
    while (position := bisect_right(ends, cursor)) > 0:
        request = ended[position - 1]
        assert request.sent_ns is not None  # noqa: S101 - left out above
        steps.append(Step("send_wait", _ended_ns(request), cursor, request=request.id))
        steps += _of_request(request, request.sent_ns)
        cursor = request.sent_ns
        del ended[position - 1 :], ends[position - 1 :]
    steps.append(Step("start", timeline.begin_ns, cursor))
    return steps


def _ended_ns(request: Request) -> int:
    return request.last_byte_ns or 0


def _answered_ns(request: Request) -> int | None:
    return request.first_byte_ns or request.headers_ns


def _of_request(request: Request, sent_ns: int) -> list[Step]:
    first = _answered_ns(request)
    if request.kind != "data" or first is None:
        stage = "transfer" if request.kind == "data" else request.kind
        return [Step(stage, sent_ns, _ended_ns(request), request=request.id)]
    return [
        Step("transfer", first, _ended_ns(request), request=request.id),
        Step("first_byte", sent_ns, first, request=request.id),
    ]
