"""The wire's times beside a reader's own: each captured request is matched with the one that the reader recorded."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

from harness.timeline.model import Capture, Chunk, Lag, Request, Timeline, WireTimes
from harness.timeline.wire.captured import Captured
from harness.timeline.wire.http import Exchange

_P95 = 0.95

_ARRIVALS = ("first_byte_ns", "last_byte_ns")
"""Events that the wire has before any reader."""


class Matches(NamedTuple):
    """Which captured request is which recorded one."""

    exchanges: dict[int, Exchange]
    """By the id of the reader's request."""
    not_captured: list[Request]
    """Recorded by the reader, not captured."""
    not_recorded: list[Exchange]
    """Captured, not recorded by the reader."""


def merge(timeline: Timeline, captured: Captured) -> Timeline:
    """Return `timeline` with the wire's times in its requests and chunks, how far the reader lags, and what is wrong.

    Requests are matched by method, key and range, and those that are equal in all three by their times. Each must have
    its partner, and a reader cannot have seen a byte before the wire did; else `valid` says what is wrong.

    Parameters
    ----------
    timeline
        As the reader recorded it; it is not changed.
    captured
        A capture around it, of nothing but this execution.
    """
    found = match(timeline.requests, captured.exchanges, captured.clock_error_ns)
    requests = [msgspec.structs.replace(r, wire=_wire_times(found.exchanges.get(r.id))) for r in timeline.requests]
    by_key = defaultdict(list)
    for request in requests:
        if request.id in found.exchanges:
            by_key[request.key].append(found.exchanges[request.id])
    chunks = [
        msgspec.structs.replace(chunk, wire=arrival(chunk, found.exchanges.get(_request_id(chunk)), by_key[chunk.key]))
        for chunk in timeline.chunks
    ]
    failures = [*captured.failures, *_leftovers(found), *_too_early(requests, found.exchanges, captured.clock_error_ns)]
    failures = [*timeline.valid.failures, *failures]
    return msgspec.structs.replace(
        timeline,
        requests=requests,
        chunks=chunks,
        capture=Capture(
            interface=captured.interface,
            packets=captured.packets,
            clock_error_ns=captured.clock_error_ns,
            lag=lags(requests),
        ),
        valid=msgspec.structs.replace(
            timeline.valid,
            ok=timeline.valid.ok and not failures and not captured.packets_dropped,
            packets_dropped=captured.packets_dropped,
            failures=failures,
        ),
    )


def match(requests: Sequence[Request], exchanges: Sequence[Exchange], clock_error_ns: int = 0) -> Matches:
    """Match each recorded request with a captured one.

    First those whose range is known on both sides, then those where one side does not know it: a reader cannot say
    which bytes a suffix is if the request failed.

    Parameters
    ----------
    requests, exchanges
        As recorded and as captured.
    clock_error_ns
        How far the two clocks may be apart.
    """
    keys = _keys(requests, exchanges)
    not_captured = sorted(requests, key=lambda r: r.sent_ns if r.sent_ns is not None else r.last_byte_ns or 0)
    not_recorded = [(keys[exchange.path], exchange) for exchange in exchanges]
    found = _equal_ones(not_captured, not_recorded, clock_error_ns)
    not_captured, not_recorded = _without(found, not_captured, not_recorded)
    waiting: dict[tuple[str, str], list[Exchange]] = defaultdict(list)
    for key, exchange in not_recorded:
        waiting[exchange.method, key].append(exchange)
    for request in not_captured:
        queue = waiting[request.method, request.key]
        partner = next((e for e in queue if request.range is None or e.range is None), None)
        if partner is not None:
            queue.remove(partner)
            found[request.id] = partner
    not_captured, not_recorded = _without(found, not_captured, not_recorded)
    return Matches(found, not_captured, [exchange for _, exchange in not_recorded])


def _equal_ones(
    requests: Sequence[Request], exchanges: Sequence[tuple[str, Exchange]], clock_error_ns: int
) -> dict[int, Exchange]:
    """Return by the id of a request what was captured of one with the same method, key and range."""
    recorded, captured = defaultdict(list), defaultdict(list)
    for request in requests:
        recorded[request.method, request.key, request.range].append(request)
    for key, exchange in exchanges:
        captured[exchange.method, key, exchange.range].append(exchange)
    return {
        request.id: exchange
        for what, those in recorded.items()
        for request, exchange in _assigned(those, captured[what], clock_error_ns)
    }


def _assigned(
    requests: Sequence[Request], exchanges: Sequence[Exchange], clock_error_ns: int
) -> list[tuple[Request, Exchange]]:
    """Return pairs of equal requests, those in which the reader saw no byte before the wire as many as there can be.

    Several equal ones may be under way at once and be answered in any order, so the order in which they were sent says
    nothing. Each takes the exchange whose times are nearest, and gives it up where another has no other choice (a
    bipartite matching by augmenting paths). What cannot be paired so is paired in order, to be found wrong.
    """
    taken: dict[int, int] = {}

    def take(request: int, refused: set[int]) -> bool:
        nearest = sorted(range(len(exchanges)), key=lambda e: _distance(requests[request], exchanges[e]))
        for exchange in nearest:
            if exchange in refused or _early_events(requests[request], exchanges[exchange], clock_error_ns):
                continue
            refused.add(exchange)
            if exchange not in taken or take(taken[exchange], refused):
                taken[exchange] = request
                return True
        return False

    for request in range(len(requests)):
        take(request, set())
    paired = {request: exchange for exchange, request in taken.items()}
    left = iter(sorted(set(range(len(exchanges))) - taken.keys()))
    for request in range(len(requests)):
        if request not in paired and (exchange := next(left, None)) is not None:
            paired[request] = exchange
    return [(requests[request], exchanges[exchange]) for request, exchange in paired.items()]


def _distance(request: Request, exchange: Exchange) -> int:
    """Return how far a recorded and a captured request are apart, summed over the events that both have."""
    stamps = _wire_stamps(exchange)
    return sum(abs(seen - stamps[event]) for event, seen in _reader_times(request).items() if seen is not None)


def _early_events(request: Request, exchange: Exchange, clock_error_ns: int) -> list[str]:
    """Return what a reader says to have seen of a response before it happened."""
    stamps, seen = _wire_stamps(exchange), _reader_times(request)
    return [event for event in _ARRIVALS if (at := seen[event]) is not None and at < stamps[event] - clock_error_ns]


def _without(
    found: Mapping[int, Exchange], requests: Sequence[Request], exchanges: Sequence[tuple[str, Exchange]]
) -> tuple[list[Request], list[tuple[str, Exchange]]]:
    taken = {id(exchange) for exchange in found.values()}
    return [r for r in requests if r.id not in found], [pair for pair in exchanges if id(pair[1]) not in taken]


def lags(requests: Iterable[Request]) -> dict[str, Lag]:
    """Return by event how much later than the wire a reader saw it, over the requests that have both.

    The first byte is that of the response, so the reader's is when it had the headers, where it says so.
    """
    pairs: dict[str, list[int]] = {"sent_ns": [], "first_byte_ns": [], "last_byte_ns": []}
    for request in requests:
        for event, seen in _reader_times(request).items():
            stamp = getattr(request.wire, event, None)
            if seen is not None and stamp is not None:
                pairs[event].append(seen - stamp)
    return {event: _lag(values) for event, values in pairs.items()}


def arrival(chunk: Chunk, exchange: Exchange | None, of_key: Sequence[Exchange]) -> WireTimes | None:
    """Return when a chunk's request left and its own first and last byte arrived.

    Parameters
    ----------
    chunk
        Its place in the shard counts.
    exchange
        What brought its last byte; None leaves the chunk without times.
    of_key
        All of its shard, for a chunk that came in several parts.
    """
    if exchange is None:
        return None
    first = exchange.arrived_ns(chunk.offset)
    sent = exchange.sent_ns
    if first is None:
        parts = [e for e in of_key if e.arrived_ns(chunk.offset) is not None]
        if parts:
            first, sent = parts[0].arrived_ns(chunk.offset), min(sent, parts[0].sent_ns)
    return WireTimes(
        sent_ns=sent, first_byte_ns=first, last_byte_ns=exchange.arrived_ns(chunk.offset + chunk.length - 1)
    )


def _request_id(chunk: Chunk) -> int:
    return -1 if chunk.request is None else chunk.request


def _wire_times(exchange: Exchange | None) -> WireTimes | None:
    return None if exchange is None else WireTimes(**_wire_stamps(exchange))


def _wire_stamps(exchange: Exchange) -> dict[str, int]:
    return {
        "sent_ns": exchange.sent_ns,
        "first_byte_ns": exchange.response_ns,
        "last_byte_ns": exchange.last_byte_ns,
    }


def _reader_times(request: Request) -> dict[str, int | None]:
    return {
        "sent_ns": request.sent_ns,
        "first_byte_ns": request.first_byte_ns if request.headers_ns is None else request.headers_ns,
        "last_byte_ns": request.last_byte_ns,
    }


def _lag(values: list[int]) -> Lag:
    if not values:
        return Lag(requests=0)
    distances = sorted(map(abs, values))
    return Lag(
        requests=len(values),
        median_ns=round(statistics.median(values)),
        p95_ns=distances[math.ceil(_P95 * len(values)) - 1],
    )


def _keys(requests: Sequence[Request], exchanges: Sequence[Exchange]) -> Mapping[str, str]:
    """Return the key below the array's for each captured path, or the path itself if it is none of the array's.

    A recording has no address of its array, so that comes from the paths: it is what stands before the keys.
    """
    recorded = {request.key for request in requests}
    plain = {exchange.path: unquote(exchange.path) for exchange in exchanges}
    before = Counter(path[: -len(tail)] for path in plain.values() for tail in _path_tails(path) if tail in recorded)
    if not before:
        return plain
    prefix = max(before, key=lambda p: (before[p], len(p)))
    return {path: name.removeprefix(prefix) for path, name in plain.items()}


def _path_tails(path: str) -> Iterator[str]:
    """Yield what follows each slash."""
    parts = path.split("/")
    for number in range(1, len(parts)):
        yield "/".join(parts[number:])


def _leftovers(found: Matches) -> Iterator[str]:
    if found.not_captured:
        first = found.not_captured[0]
        asked = f"{first.method} {first.key} {first.range}"
        yield f"{len(found.not_captured)} recorded requests were not captured, first {asked}"
    if found.not_recorded:
        other = found.not_recorded[0]
        yield (
            f"{len(found.not_recorded)} captured requests are not the reader's, "
            f"first {other.method} {other.path} {other.range} with status {other.status}"
        )


def _too_early(requests: Iterable[Request], exchanges: Mapping[int, Exchange], error_ns: int) -> Iterator[str]:
    """Yield requests of which a reader says to have seen an event before it happened."""
    early = [(r.id, _early_events(r, exchanges[r.id], error_ns)) for r in requests if r.id in exchanges]
    for event in _ARRIVALS:
        wrong = [number for number, events in early if event in events]
        if wrong:
            yield f"{len(wrong)} requests have {event} before the wire has it, first {wrong[0]}: mismatched?"
