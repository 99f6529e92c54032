"""What is checked of every recording; one that fails says so and is published nowhere."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from harness.datasets.indexes import read_indexes
from harness.datasets.shards import MISSING
from harness.store.control import StoreCounters
from harness.timeline.model import Chunk, Request, Timeline, Validity
from harness.timeline.schedule import ENDS
from harness.workload.model import Workload
from harness.workload.selections import chunks_by_shard, wanted_chunks

_CHUNK_EVENTS = tuple(event for event, _ in ENDS)
_REQUEST_EVENTS = ("sent_ns", "headers_ns", "first_byte_ns", "last_byte_ns")


class Wanted(NamedTuple):
    """A stored chunk that had to be read; chunks that are not stored cost no request and are left out."""

    chunk: tuple[int, ...]
    """Coordinates in the array's grid of inner chunks."""
    key: str
    offset: int
    length: int | None
    """None for an object without shard index: all of it."""


def wanted(workload: Workload) -> list[Wanted]:
    """Return what a workload wants, from the stored shard indexes: the truth for every reader."""
    array = workload.array
    chunks = [chunk for read in workload.reads for chunk in wanted_chunks(array, read)]
    by_shard = chunks_by_shard(array, chunks)
    indexes = read_indexes(workload.target, array, list(by_shard), may_miss=bool(workload.truth.agreed_by))
    found = []
    for chunk in chunks:
        shard, inner = array.place(chunk)
        offset, length = indexes[shard].offsets[inner], indexes[shard].lengths[inner]
        if offset != MISSING:
            found.append(Wanted(chunk, array.object_key(shard), int(offset), int(length)))
    return found


def validate(timeline: Timeline, want: Sequence[Wanted], *, counted: StoreCounters | None) -> Validity:
    """Check a recorded workload against the shard indexes and the store's counters; keeps what was found before.

    Parameters
    ----------
    timeline
        As the reader recorded it.
    want
        What the workload wants, by `wanted`.
    counted
        What the store counted during the recording; None where it cannot.
    """
    checked = examine(
        timeline.chunks,
        timeline.requests,
        want,
        counted=counted,
        packets_dropped=timeline.valid.packets_dropped,
    )
    checked.failures = [*dict.fromkeys([*timeline.valid.failures, *checked.failures])]
    checked.ok = not checked.failures
    return checked


def examine(
    chunks: Sequence[Chunk],
    requests: Sequence[Request],
    want: Sequence[Wanted],
    *,
    counted: StoreCounters | None = None,
    packets_dropped: int | None = None,
) -> Validity:
    """Return what holds of a recording.

    Parameters
    ----------
    chunks, requests
        As recorded.
    want
        The stored chunks that had to be read.
    counted
        What the store counted; None where it cannot.
    packets_dropped
        By the capture; None without one.
    """
    linked = [chunk for chunk in chunks if chunk.request is not None]
    failures = [
        *_wrong_chunks(chunks, linked, want),
        *_missing_events(chunks),
        *_decreasing(chunks, requests),
        *_misplaced(linked, requests),
        *_miscounted(requests, counted),
    ]
    if packets_dropped:
        failures.append(f"the capture dropped {packets_dropped} packets")
    return Validity(
        ok=not failures,
        chunks_wanted=len(want),
        chunks_linked=len(linked),
        requests_recorded=len(requests),
        requests_counted=None if counted is None else counted.requests,
        packets_dropped=packets_dropped,
        failures=failures,
    )


def contradiction(timeline: Timeline) -> str | None:
    """Return what a timeline says that cannot be, as after an edit by hand; None of one that says it is not valid."""
    told = timeline.valid
    if not told.ok:
        return None
    linked = [chunk for chunk in timeline.chunks if chunk.request is not None]
    found = itertools.chain(
        _decreasing(timeline.chunks, timeline.requests),
        _misplaced(linked, timeline.requests),
        _unlike("requests", len(timeline.requests), told.requests_recorded),
        _unlike("chunks with a request", len(linked), told.chunks_linked),
    )
    return next(found, None)


def _unlike(what: str, there: int, said: int) -> Iterator[str]:
    if there != said:
        yield f"{there} {what}, of {said} that it says were recorded"


def _wrong_chunks(chunks: Sequence[Chunk], linked: Sequence[Chunk], want: Sequence[Wanted]) -> Iterator[str]:
    if len(linked) < len(chunks):
        yield f"{len(chunks) - len(linked)} of {len(chunks)} chunks have no request"
    sized = {(w.chunk, w.key) for w in want if w.length is not None}
    seen = Counter(
        Wanted(c.chunk, c.key, c.offset, c.length if (c.chunk, c.key) in sized or not want else None) for c in linked
    )
    due = Counter(want)
    for what, excess in (("wanted but not recorded", due - seen), ("recorded but not wanted", seen - due)):
        if excess:
            first = min(excess, key=lambda w: (w.key, w.offset))
            yield f"{excess.total()} chunks {what}, first {first.chunk} at {first.key} byte {first.offset}"


def _missing_events(chunks: Sequence[Chunk]) -> Iterator[str]:
    """Yield events that only some chunks have; how a chunk was decoded may differ from shard to shard."""
    for event in ("sent_ns", "first_byte_ns", "last_byte_ns", "copied_ns"):
        without = sum(getattr(chunk, event) is None for chunk in chunks)
        if 0 < without < len(chunks):
            yield f"{without} of {len(chunks)} chunks have no {event}"


def _decreasing(chunks: Sequence[Chunk], requests: Sequence[Request]) -> Iterator[str]:
    for name, things, fields in (("chunk", chunks, _CHUNK_EVENTS), ("request", requests, _REQUEST_EVENTS)):
        wrong = [(thing, pair) for thing in things for pair in [_decrease(thing, fields)] if pair is not None]
        if wrong:
            thing, (before, after) = wrong[0]
            which = thing.chunk if isinstance(thing, Chunk) else thing.id
            yield f"times decrease in {len(wrong)} {name}s, first {which}: {after} before {before}"


def _decrease(thing: Chunk | Request, fields: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two events that are in the wrong order."""
    last: tuple[str, int] | None = None
    for field in fields:
        value = getattr(thing, field)
        if value is None:
            continue
        if last is not None and value < last[1]:
            return last[0], field
        last = (field, value)
    return None


def _misplaced(linked: Sequence[Chunk], requests: Sequence[Request]) -> Iterator[str]:
    by_id = {request.id: request for request in requests}
    if len(by_id) < len(requests):
        yield "request ids are not unique"
    wrong = [chunk for chunk in linked if not _brought(chunk, by_id.get(chunk.request or 0))]
    if wrong:
        yield f"{len(wrong)} chunks are linked to a request that did not bring them, first {wrong[0].chunk}"


def _brought(chunk: Chunk, request: Request | None) -> bool:
    if request is None or request.key != chunk.key:
        return False
    begin, end = chunk.offset, chunk.offset + chunk.length
    return request.range is None or (request.range[0] < end and begin < request.range[1])  # part of it, where split


def _miscounted(requests: Sequence[Request], counted: StoreCounters | None) -> Iterator[str]:
    if counted is None:
        return
    recorded = Counter("head" if request.method == "HEAD" else request.kind for request in requests)
    stored = {"index": counted.get_index, "data": counted.get_data, "head": counted.head}
    for kind, number in {**stored, "all": counted.requests}.items():
        ours = len(requests) if kind == "all" else recorded[kind]
        if ours != number:
            yield f"{ours} requests recorded, {number} counted by the store ({kind})"
