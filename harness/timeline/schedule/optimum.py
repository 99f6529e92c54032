"""The optimal schedule: the recorded requests, decodes and copies replayed with nothing in each other's way.

A model of a reader that has `in_flight` requests under way, decodes each chunk on any free core once its bytes are
there, and copies it once. A request keeps the time to its first byte, as recorded (on the wire, where that was
captured); it is sent when its shard's index is there and a place in flight is free, in the recorded order. Its body
comes at the rate of a connection, or at its recorded one where that is not known. Where the link's rate is known
bodies share it fairly or have it in the order of their GETs, whatever ends earlier: fair shares make equal requests end
together, and the link then waits for the next ones; in turn, the last of few long ones has a connection's rate alone.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from harness.timeline.model import Chunk, Request, Timeline, Validity

_LEAST_NS = 1e-3


class _Times(NamedTuple):
    """A request in the model, in ns from the call."""

    sent: float
    first: float
    last: float


class _Cost(NamedTuple):
    """What a request takes with the link to itself."""

    wait_ns: float
    bytes: float
    rate: float
    """Bytes per ns; infinite for a body that came at once."""


def optimum(timeline: Timeline, *, in_flight: int, cores: int) -> Timeline:
    """Return the timeline that the same requests and costs would have had in the better of two schedules.

    Parameters
    ----------
    timeline
        As recorded; its HEADs and metadata are left out, since they can be spared.
    in_flight
        Requests that may be under way.
    cores
        Threads that decode and copy.
    """
    orders = (False,) if timeline.link_bytes_per_second is None else (False, True)  # nothing to share, one schedule
    schedules = (_schedule(timeline, in_flight, cores, in_turn=in_turn) for in_turn in orders)
    return min(schedules, key=lambda schedule: schedule.end_ns)


def _schedule(timeline: Timeline, in_flight: int, cores: int, *, in_turn: bool) -> Timeline:
    requests = sorted((r for r in timeline.requests if _known(r)), key=lambda r: r.sent_ns or 0)
    link, connection = (
        None if rate is None else rate / 1e9
        for rate in (timeline.link_bytes_per_second, timeline.connection_bytes_per_second)
    )
    times = _Network(requests, in_flight, link=link, connection=connection, in_turn=in_turn).run()
    chunks = list(_decoded(timeline, requests, times, cores))
    ends = [chunk.copied_ns or 0 for chunk in chunks] or [timeline.begin_ns + round(t.last) for t in times.values()]
    return Timeline(
        reader=f"optimum of {timeline.reader}",
        versions=timeline.versions,
        workload=timeline.workload,
        target=timeline.target,
        begin_ns=timeline.begin_ns,
        end_ns=max(ends, default=timeline.begin_ns),
        cores=cores,
        link_bytes_per_second=timeline.link_bytes_per_second,
        connection_bytes_per_second=timeline.connection_bytes_per_second,
        capture=None if timeline.capture is None else msgspec.structs.replace(timeline.capture, lag={}),
        valid=Validity(ok=True, chunks_wanted=len(chunks), chunks_linked=len(chunks), requests_recorded=len(requests)),
        requests=[_request(request, times[request.id], timeline.begin_ns) for request in requests],
        chunks=chunks,
    )


def _known(request: Request) -> bool:
    sent, last = _sent(request), _last(request)
    return request.kind != "metadata" and request.method != "HEAD" and sent is not None and last is not None


def _sent(request: Request) -> int | None:
    return request.wire.sent_ns if request.wire and request.wire.sent_ns is not None else request.sent_ns


def _first(request: Request) -> int | None:
    if request.wire and request.wire.first_byte_ns is not None:
        return request.wire.first_byte_ns
    return request.first_byte_ns or request.headers_ns or _last(request)


def _last(request: Request) -> int | None:
    return request.wire.last_byte_ns if request.wire and request.wire.last_byte_ns is not None else request.last_byte_ns


def _cost(request: Request, connection: float | None) -> _Cost:
    """Return what a request takes: a body that others or its reader kept back when recorded comes without that here."""
    sent, first, last = _sent(request) or 0, _first(request) or 0, _last(request) or 0
    first = min(max(first, sent), last)
    size = request.bytes or (request.range[1] - request.range[0] if request.range else 0)
    recorded = size / (last - first) if last > first else float("inf")
    return _Cost(first - sent, size, max(recorded, connection or 0))


class _Network:
    """Requests with a bound on how many are in flight, over connections that share a link fairly or go in turn."""

    def __init__(
        self,
        requests: Sequence[Request],
        in_flight: int,
        *,
        link: float | None,
        connection: float | None,
        in_turn: bool,
    ) -> None:
        self._costs = {request.id: _cost(request, connection) for request in requests}
        self._order = {request.id: number for number, request in enumerate(requests)}
        self._free = in_flight
        self._link = link
        self._in_turn = in_turn
        self._after: dict[int, list[int]] = defaultdict(list)
        self._ready: list[tuple[int, int]] = []
        indexes: dict[str, list[Request]] = defaultdict(list)
        for request in requests:
            if request.kind == "index":
                indexes[request.key].append(request)
        for request in requests:
            index = _index_before(request, indexes[request.key])
            if index is None:
                self._release(request.id)
            else:
                self._after[index].append(request.id)
        self._waiting: list[tuple[float, int]] = []
        self._left: dict[int, float] = {}
        self._sent: dict[int, float] = {}
        self._first: dict[int, float] = {}

    def run(self) -> dict[int, _Times]:
        """Return the times of every request, by its id."""
        now, done = 0.0, {}
        while self._send(now) or self._left:
            rates = self._rates()
            first = self._waiting[0][0] if self._waiting else float("inf")
            ends = {one: now + self._left[one] / rate for one, rate in rates.items() if rate > 0}
            later = min(first, min(ends.values(), default=float("inf")))
            for one in self._left:
                self._left[one] -= rates[one] * (later - now) if rates[one] < float("inf") else self._left[one]
            now = later
            while self._waiting and self._waiting[0][0] <= now:
                _, one = heapq.heappop(self._waiting)
                self._first[one], self._left[one] = now, self._costs[one].bytes
            for one in [one for one, left in self._left.items() if left <= _LEAST_NS]:
                del self._left[one]
                done[one] = _Times(self._sent[one], self._first[one], now)
                self._free += 1
                for next_one in self._after[one]:
                    self._release(next_one)
        return done

    def _release(self, request: int) -> None:
        heapq.heappush(self._ready, (self._order[request], request))

    def _send(self, now: float) -> bool:
        """Send what may be sent, and return whether any first byte is awaited."""
        while self._ready and self._free:
            _, one = heapq.heappop(self._ready)
            self._free -= 1
            self._sent[one] = now
            heapq.heappush(self._waiting, (now + self._costs[one].wait_ns, one))
        return bool(self._waiting)

    def _rates(self) -> dict[int, float]:
        """Share the link: nobody gets more than its own rate; in turn it gets all that others before it leave."""
        own = {one: self._costs[one].rate for one in self._left}
        if self._link is None:
            return own
        turn = (lambda one: (self._sent[one], self._order[one])) if self._in_turn else (lambda one: (own[one], one))
        rates, left = {}, self._link
        for position, one in enumerate(sorted(own, key=turn)):
            rates[one] = min(own[one], left if self._in_turn else left / (len(own) - position))
            left -= rates[one]
        return rates


def _index_before(request: Request, indexes: Sequence[Request]) -> int | None:
    """Return the index request of the same shard that a data request followed."""
    if request.kind != "data":
        return None
    before = [other for other in indexes if (other.last_byte_ns or 0) <= (request.sent_ns or 0)]
    return max(before, key=lambda other: other.last_byte_ns or 0).id if before else None


def _decoded(timeline: Timeline, requests: Sequence[Request], times: dict[int, _Times], cores: int) -> Iterator[Chunk]:
    """Yield the chunks decoded on the first core that is free, in the order in which their bytes are there.

    Of a chunk that was decoded once for several reads, all but the first cost a copy.
    """
    sharing, begin_ns = _sharing(timeline.chunks), timeline.begin_ns
    arriving = sorted(_arriving(timeline, requests, times), key=lambda one: one[1].last)
    free = [0.0] * cores
    decodes: dict[tuple[object, ...], tuple[float, float]] = {}
    for chunk, arrival in arriving:
        begin, copy_ns = max(heapq.heappop(free), arrival.last), _copy_ns(chunk, sharing)
        decode = (chunk.key, chunk.offset, chunk.decode_start_ns, chunk.decoded_ns)
        is_first = decode not in decodes
        decoding = decodes.setdefault(decode, (begin, begin + _decode_ns(chunk)))
        heapq.heappush(free, (decoding[1] if is_first else begin) + copy_ns)
        sent, first, last, start, decoded, copied = (
            begin_ns + round(time) for time in (*arrival, *decoding, max(begin, decoding[1]) + copy_ns)
        )
        yield Chunk(
            chunk=chunk.chunk,
            key=chunk.key,
            offset=chunk.offset,
            length=chunk.length,
            request=chunk.request,
            sent_ns=sent,
            first_byte_ns=first,
            last_byte_ns=last,
            decode_start_ns=start,
            decoded_ns=decoded,
            copied_ns=copied,
        )


def _arriving(
    timeline: Timeline, requests: Sequence[Request], times: dict[int, _Times]
) -> Iterator[tuple[Chunk, _Times]]:
    """Yield when a chunk's bytes are there: its part of the request, or of the last of those that brought it."""
    by_key: dict[str, list[Request]] = defaultdict(list)
    for request in requests:
        if request.kind == "data":
            by_key[request.key].append(request)
    by_id = {request.id: request for requests in by_key.values() for request in requests}
    with_index = _with_index(timeline)
    for chunk in timeline.chunks:
        linked = by_id.get(chunk.request) if chunk.request is not None else None
        whole = linked is not None and _covers(linked, chunk)
        brought = [linked] if whole and linked else [r for r in by_key[chunk.key] if _overlaps(r, chunk)]
        parts = [
            times[request.id] if request.id in with_index else _part(request, times[request.id], chunk)
            for request in brought
        ]
        if parts:
            yield chunk, max(parts, key=lambda part: part.last)


def _with_index(timeline: Timeline) -> set[int]:
    """Return the requests that bring a shard whole, its index last: no chunk of it can be found before."""
    array = timeline.workload.get("array") or {}
    if array.get("index_location", "end") != "end":
        return set()
    asked = {request.key for request in timeline.requests if request.kind == "index"}
    ends: dict[str, int] = defaultdict(int)
    for chunk in timeline.chunks:
        ends[chunk.key] = max(ends[chunk.key], chunk.offset + chunk.length)
    return {
        request.id
        for request in timeline.requests
        if request.kind == "data" and request.key in ends and request.key not in asked
        if request.range is None or (request.range[0] == 0 and request.range[1] > ends[request.key])
    }


def _covers(request: Request, chunk: Chunk) -> bool:
    return request.range is None or (
        request.range[0] <= chunk.offset and chunk.offset + chunk.length <= request.range[1]
    )


def _overlaps(request: Request, chunk: Chunk) -> bool:
    return request.range is None or (request.range[0] < chunk.offset + chunk.length and chunk.offset < request.range[1])


def _part(request: Request, times: _Times, chunk: Chunk) -> _Times:
    """Return when a chunk's own bytes of a body came, which comes at an even rate."""
    begin, end = request.range or (0, request.bytes or 1)

    def at(byte: int) -> float:
        share = min(max((byte - begin) / max(1, end - begin), 0), 1)
        return times.first + share * (times.last - times.first)

    return _Times(times.sent, at(chunk.offset), at(chunk.offset + chunk.length))


def _decode_ns(chunk: Chunk) -> float:
    if chunk.decode_busy_ns is not None:
        return chunk.decode_busy_ns
    if chunk.decode_start_ns is None or chunk.decoded_ns is None:
        return 0
    return chunk.decoded_ns - chunk.decode_start_ns


def _sharing(chunks: Sequence[Chunk]) -> dict[tuple[int | None, int | None], int]:
    """Return how many chunks one copy into the final array served, by its begin and end."""
    shared: dict[tuple[int | None, int | None], int] = defaultdict(int)
    for chunk in chunks:
        shared[chunk.copy_start_ns, chunk.copied_ns] += 1
    return shared


def _copy_ns(chunk: Chunk, sharing: dict[tuple[int | None, int | None], int]) -> float:
    """Return what one copy of the chunk costs; of two copies the optimum makes one."""
    if chunk.shard_copy_start_ns is not None and chunk.shard_copy_ns is not None:
        return chunk.shard_copy_ns - chunk.shard_copy_start_ns
    if chunk.copied_ns is None:
        return 0
    if chunk.copy_start_ns is not None:
        return (chunk.copied_ns - chunk.copy_start_ns) / sharing[chunk.copy_start_ns, chunk.copied_ns]
    return 0 if chunk.decoded_ns is None else chunk.copied_ns - chunk.decoded_ns


def _request(request: Request, times: _Times, begin_ns: int) -> Request:
    sent, first, last = (begin_ns + round(time) for time in times)
    return Request(
        id=request.id,
        method=request.method,
        key=request.key,
        range=request.range,
        kind=request.kind,
        status=request.status,
        sent_ns=sent,
        headers_ns=first,
        first_byte_ns=first,
        last_byte_ns=last,
        bytes=request.bytes,
    )
