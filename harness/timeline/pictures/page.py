"""The picture as a page: one file that holds its data and needs nothing else, not even a server."""

from collections.abc import Sequence
from typing import Any

from harness.timeline.model import EVENTS, Chunk, Request, Timeline
from harness.timeline.pictures.colours import COLOURS
from harness.timeline.pictures.render import render
from harness.timeline.pictures.rows import facts, name, ordered, title
from harness.timeline.schedule import ENDS, LIMIT_IS, OPTIMUM_IS, STAGES, analyse, in_flight
from harness.timeline.schedule.critical import PATH_STAGES

_TIMES = tuple(event for event, _ in ENDS)


def html_page(timelines: Sequence[Timeline]) -> str:
    """Return a page of the timelines, one above the other on the same axis."""
    return render(
        "timeline.html",
        data={**constants(), "timelines": [payload(timeline) for timeline in timelines]},
        title=" and ".join(timeline.reader for timeline in timelines),
    )


def constants() -> dict[str, Any]:
    """Return what all timelines share: stages with names and colours, and which time ends which."""
    return {
        "stages": [{"key": key, "name": text, "colour": COLOURS[key]} for key, text in STAGES.items()],
        "ending": [list(STAGES).index(stage) for _, stage in ENDS],
        "times": [time.removesuffix("_ns") for time in _TIMES],
        "terms": [OPTIMUM_IS, LIMIT_IS],
    }


def payload(timeline: Timeline) -> dict[str, Any]:
    """Return what the page shows of a timeline, in columns; times are ns from the call, unknown is null."""
    chunks = ordered(timeline)
    keys = list(dict.fromkeys(chunk.key for chunk in chunks))
    numbers = {key: number for number, key in enumerate(keys)}
    analysis = analyse(timeline)
    views = {"reader": _view(timeline, chunks)}
    if any(chunk.wire is not None for chunk in chunks):
        views["wire"] = _wire(timeline, chunks)
    views["optimum"] = _view(analysis.best, _same_order(chunks, analysis.best.chunks))
    ranges = {request.id: request.range for request in timeline.requests}
    return {
        "title": title(timeline),
        "reader": timeline.reader,
        "facts": facts(timeline, analysis),
        "sentence": analysis.sentence,
        "notes": timeline.notes,
        "failures": timeline.valid.failures,
        "versions": timeline.versions,
        "span": timeline.end_ns - timeline.begin_ns,
        "keys": keys,
        "names": [name(chunk) for chunk in chunks],
        "key": [numbers[chunk.key] for chunk in chunks],
        "offset": [chunk.offset for chunk in chunks],
        "length": [chunk.length for chunk in chunks],
        "request": [chunk.request for chunk in chunks],
        "range": [ranges.get(chunk.request) if chunk.request is not None else None for chunk in chunks],
        "views": views,
        "critical": [
            {"name": PATH_STAGES[stage], "key": stage, "seconds": seconds}
            for stage, seconds in sorted(analysis.critical_seconds.items(), key=lambda item: -item[1])
        ],
        "stage_seconds": [
            {"name": STAGES[stage], "key": stage, "sum": time.seconds, "median": time.median_seconds}
            for stage, time in analysis.stages.items()
        ],
    }


def _view(timeline: Timeline, chunks: Sequence[Chunk | None]) -> dict[str, Any]:
    return {
        "span": timeline.end_ns - timeline.begin_ns,
        "t": [[_since(timeline, chunk, event) for chunk in chunks] for event in _TIMES],
        "flight": _flight(timeline, timeline.requests),
    }


def _since(timeline: Timeline, thing: object | None, event: str) -> int | None:
    time = None if thing is None else getattr(thing, event)
    return None if time is None else time - timeline.begin_ns


def _wire(timeline: Timeline, chunks: Sequence[Chunk]) -> dict[str, Any]:
    seen = [
        [_since(timeline, chunk.wire, event) if event in EVENTS[:3] else None for chunk in chunks] for event in _TIMES
    ]
    return {"span": timeline.end_ns - timeline.begin_ns, "t": seen, "flight": _flight(timeline, _on_wire(timeline))}


def _on_wire(timeline: Timeline) -> list[Request]:
    return [
        Request(
            id=request.id,
            method=request.method,
            key=request.key,
            range=request.range,
            kind=request.kind,
            sent_ns=request.wire.sent_ns,
            last_byte_ns=request.wire.last_byte_ns,
        )
        for request in timeline.requests
        if request.wire is not None
    ]


def _flight(timeline: Timeline, requests: Sequence[Request]) -> list[list[int]]:
    return [[time - timeline.begin_ns, number] for time, number in in_flight(requests)]


def _same_order(chunks: Sequence[Chunk], others: Sequence[Chunk]) -> list[Chunk | None]:
    """Return for each chunk its counterpart; a chunk that was read twice has two."""
    by_place: dict[tuple[object, ...], list[Chunk]] = {}
    for other in reversed(others):
        by_place.setdefault((other.key, other.offset, other.request), []).append(other)
    found = [by_place.get((chunk.key, chunk.offset, chunk.request)) for chunk in chunks]
    return [those.pop() if those else None for those in found]
