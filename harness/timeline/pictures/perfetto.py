"""A Chrome trace, which ui.perfetto.dev and chrome://tracing open: tracks of requests, decode threads and copies."""

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from harness.timeline.model import Chunk, Timeline
from harness.timeline.pictures.rows import name, title
from harness.timeline.schedule import in_flight

_REQUESTS, _DECODE, _COPIES = 1, 2, 3
_TRACKS = {_REQUESTS: "requests", _DECODE: "decode", _COPIES: "copies"}


def perfetto_trace(timeline: Timeline) -> bytes:
    """Return the trace as JSON; times are microseconds from the call."""
    events = [*_named(), *_requests(timeline), *_decodes(timeline), *_copies(timeline), *_in_flight(timeline)]
    used = {event["pid"] for event in events if event["ph"] != "M"}
    kept = [event for event in events if event["pid"] in used]
    return msgspec.json.encode({"traceEvents": kept, "displayTimeUnit": "ms", "otherData": {"title": title(timeline)}})


def _named() -> Iterator[dict[str, Any]]:
    for process, text in _TRACKS.items():
        yield {"ph": "M", "pid": process, "tid": 0, "name": "process_name", "args": {"name": text}}
        yield {"ph": "M", "pid": process, "tid": 0, "name": "process_sort_index", "args": {"sort_index": process}}


def _slice(timeline: Timeline, track: tuple[int, int], text: str, begin: int, end: int, **about: Any) -> dict[str, Any]:
    process, thread = track
    return {
        "ph": "X",
        "pid": process,
        "tid": thread,
        "name": text,
        "ts": (begin - timeline.begin_ns) / 1e3,
        "dur": (end - begin) / 1e3,
        "args": about,
    }


def _requests(timeline: Timeline) -> Iterator[dict[str, Any]]:
    known = [r for r in timeline.requests if r.sent_ns is not None and r.last_byte_ns is not None]
    spans = [(r.sent_ns or 0, r.last_byte_ns or 0) for r in known]
    for request, (sent, last), lane in zip(known, spans, _lanes(spans), strict=True):
        about = {"key": request.key, "range": request.range, "bytes": request.bytes, "status": request.status}
        track = _REQUESTS, lane
        yield _slice(timeline, track, f"{request.kind} {request.key}", sent, last, **about)
        first = request.first_byte_ns or request.headers_ns
        if first is not None:
            yield _slice(timeline, track, "first byte", sent, first)
            yield _slice(timeline, track, "transfer", first, last)


def _decodes(timeline: Timeline) -> Iterator[dict[str, Any]]:
    known = [c for c in timeline.chunks if c.decode_start_ns is not None and c.decoded_ns is not None]
    threads = {thread: number for number, thread in enumerate(sorted({c.thread or 0 for c in known}))}
    for thread, chunks in _grouped(known).items():
        spans = [(c.decode_start_ns or 0, c.decoded_ns or 0) for c in chunks]
        # Chunks that a library decodes codec by codec overlap on their thread: a lane each.
        for chunk, (begin, end), lane in zip(chunks, spans, _lanes(spans), strict=True):
            track = _DECODE, threads[thread] * 10_000 + lane
            yield _slice(timeline, track, name(chunk), begin, end, thread=thread, busy_us=_us(chunk.decode_busy_ns))


def _grouped(chunks: Iterable[Chunk]) -> dict[int, list[Chunk]]:
    found: dict[int, list[Chunk]] = {}
    for chunk in chunks:
        found.setdefault(chunk.thread or 0, []).append(chunk)
    return found


def _us(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e3


def _copies(timeline: Timeline) -> Iterator[dict[str, Any]]:
    found = {
        (text, begin, end): chunk
        for chunk in timeline.chunks
        for text, begin, end in (
            ("into the shard's array", chunk.shard_copy_start_ns, chunk.shard_copy_ns),
            ("into the final array", chunk.copy_start_ns, chunk.copied_ns),
        )
        if begin is not None and end is not None
    }
    spans = [(begin, end) for _, begin, end in found]
    for ((text, begin, end), chunk), lane in zip(found.items(), _lanes(spans), strict=True):
        yield _slice(timeline, (_COPIES, lane), text, begin, end, chunk=name(chunk), key=chunk.key)


def _in_flight(timeline: Timeline) -> Iterator[dict[str, Any]]:
    for time_ns, number in in_flight(timeline.requests):
        yield {
            "ph": "C",
            "pid": _REQUESTS,
            "tid": 0,
            "name": "in flight",
            "ts": (time_ns - timeline.begin_ns) / 1e3,
            "args": {"requests": number},
        }


def _lanes(spans: list[tuple[int, int]]) -> list[int]:
    """Return a lane for each span, so that none overlaps another in its lane: the lowest that is free."""
    lanes = [0] * len(spans)
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    for number in sorted(range(len(spans)), key=lambda number: spans[number]):
        begin, end = spans[number]
        while busy and busy[0][0] <= begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lanes[number] = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, lanes[number]))
    return lanes
