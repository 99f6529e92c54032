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


class Matches(NamedTuple):
    """Which captured request is which recorded one."""

    exchanges: dict[int, Exchange]
    """By the id of the reader's request."""
    unseen: list[Request]
    """Recorded by the reader, not captured."""
    strange: list[Exchange]
    """Captured, not recorded by the reader."""


def merge(timeline: Timeline, captured: Captured) -> Timeline:
    """Return `timeline` with the wire's times in its requests and chunks, how far the reader lags, and what is wrong.

    Requests are matched by method, key and range, and those that are equal in all three in the order of time. Each
    must have its partner, and a reader cannot have seen a byte before the wire did; else `valid` says what is wrong.

    Parameters
    ----------
    timeline
        As the reader recorded it; it is not changed.
    captured
        A capture around it, of nothing but this execution.
    """
    found = match(timeline.requests, captured.exchanges)
    requests = [msgspec.structs.replace(r, wire=_wire_times(found.exchanges.get(r.id))) for r in timeline.requests]
    by_key = defaultdict(list)
    for request in requests:
        if request.id in found.exchanges:
            by_key[request.key].append(found.exchanges[request.id])
    chunks = [
        msgspec.structs.replace(chunk, wire=arrival(chunk, found.exchanges.get(_request_id(chunk)), by_key[chunk.key]))
        for chunk in timeline.chunks
    ]
    failures = [*captured.failures, *_leftovers(found), *_too_early(requests, captured.clock_error_ns)]
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


def match(requests: Sequence[Request], exchanges: Sequence[Exchange]) -> Matches:
    """Match each recorded request with a captured one.

    First those whose range is known on both sides, then those where one side does not know it: a reader cannot say
    which bytes a suffix is if the request failed.
    """
    keys = _keys(requests, exchanges)
    found: dict[int, Exchange] = {}
    unseen = sorted(requests, key=lambda r: r.sent_ns if r.sent_ns is not None else r.last_byte_ns or 0)
    strange = [(keys[exchange.path], exchange) for exchange in exchanges]
    for exact in (True, False):
        waiting: dict[tuple[str, str], list[Exchange]] = defaultdict(list)
        for key, exchange in strange:
            waiting[exchange.method, key].append(exchange)
        for request in unseen:
            queue = waiting[request.method, request.key]
            partner = next((e for e in queue if _same(request.range, e.range, exact=exact)), None)
            if partner is not None:
                queue.remove(partner)
                found[request.id] = partner
        unseen = [r for r in unseen if r.id not in found]
        taken = {id(exchange) for exchange in found.values()}
        strange = [(key, exchange) for key, exchange in strange if id(exchange) not in taken]
    return Matches(found, unseen, [exchange for _, exchange in strange])


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
    if exchange is None:
        return None
    return WireTimes(sent_ns=exchange.sent_ns, first_byte_ns=exchange.response_ns, last_byte_ns=exchange.last_byte_ns)


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


def _same(recorded: tuple[int, int] | None, captured: tuple[int, int] | None, *, exact: bool) -> bool:
    return recorded == captured or (not exact and (recorded is None or captured is None))


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
    if found.unseen:
        first = found.unseen[0]
        yield f"{len(found.unseen)} recorded requests were not captured, first {first.method} {first.key} {first.range}"
    if found.strange:
        other = found.strange[0]
        yield (
            f"{len(found.strange)} captured requests are not the reader's, "
            f"first {other.method} {other.path} {other.range} with status {other.status}"
        )


def _too_early(requests: Iterable[Request], error_ns: int) -> Iterator[str]:
    """Yield requests of which a reader says to have seen an event before it happened."""
    for event in ("first_byte_ns", "last_byte_ns"):
        wrong = [
            request
            for request in requests
            for seen, stamp in [(_reader_times(request)[event], getattr(request.wire, event, None))]
            if seen is not None and stamp is not None and seen < stamp - error_ns
        ]
        if wrong:
            yield f"{len(wrong)} requests have {event} before the wire has it, first {wrong[0].id}: mismatched?"
