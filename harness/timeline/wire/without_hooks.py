"""A timeline from the wire alone: events 1 to 3 of readers that have no hooks."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from urllib.parse import unquote

import numpy as np

from harness.errors import MeasurementError
from harness.machine.cpu import cores
from harness.timeline.model import Capture, Chunk, Kind, Request, Timeline, WireTimes
from harness.timeline.validity import Wanted, examine, wanted
from harness.timeline.wire.captured import Captured
from harness.timeline.wire.http import Exchange
from harness.timeline.wire.merging import arrival
from harness.workload.model import Workload

NOTE_EVENTS = "events 4 and 5 are unknown: this library has no hooks, and decoding is not on the wire"
NOTE_WINDOW = (
    "it begins with the first request's last packet and ends with the last response's: the call is not on the wire"
)
NOTE_SPLIT = "a chunk that spans several requests is shown with the one that brought its last byte"

_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


def from_wire(workload: Workload, captured: Captured, *, want: Sequence[Wanted] | None = None) -> Timeline:
    """Return the timeline of one execution of `workload`, from its packets only.

    Parameters
    ----------
    workload
        What was read while capturing.
    captured
        A capture of nothing else.
    want
        Stored chunks that the workload wants; None reads the shard indexes, the truth, from the target.

    Raises
    ------
    MeasurementError
        No request was captured.
    """
    if not captured.exchanges:
        raise MeasurementError(f"no request to {captured.server.host}:{captured.server.port} was captured")
    want = wanted(workload) if want is None else want
    prefix = "/" + "/".join(filter(None, (workload.target.prefix, workload.array.key))) + "/"
    brought = _Brought(prefix, captured.exchanges)
    chunks = [brought.chunk(one) for one in want]
    valid = examine(chunks, brought.requests, want, packets_dropped=captured.packets_dropped)
    valid.failures = [*captured.failures, *valid.failures]
    valid.ok = not valid.failures
    return Timeline(
        reader="",
        workload={"label": workload.label, "digest": workload.digest},
        target=workload.target.identity,
        begin_ns=min(exchange.sent_ns for exchange in captured.exchanges),
        end_ns=max(exchange.last_byte_ns for exchange in captured.exchanges),
        cores=cores(),
        capture=Capture(interface=captured.interface, packets=captured.packets, clock_error_ns=captured.clock_error_ns),
        valid=valid,
        requests=brought.requests,
        chunks=sorted(chunks, key=lambda c: (c.sent_ns or 0, c.key, c.offset)),
        notes=[NOTE_EVENTS, NOTE_WINDOW, *([NOTE_SPLIT] if brought.split else [])],
    )


class _Brought:
    """Captured requests, and which of them brought a chunk."""

    def __init__(self, prefix: str, exchanges: Sequence[Exchange]) -> None:
        self.requests: list[Request] = []
        self.split = False
        self._times_wanted: Counter[Wanted] = Counter()
        by_key: dict[str, list[tuple[int, Exchange]]] = defaultdict(list)
        for number, exchange in enumerate(exchanges):
            path = unquote(exchange.path)
            key = path.partition(prefix)[2] or path
            self.requests.append(_request(number, key, exchange))
            if exchange.method == "GET" and exchange.succeeded:
                by_key[key].append((number, exchange))
        self._of_key = {key: _Objects(found) for key, found in by_key.items()}

    def chunk(self, want: Wanted) -> Chunk:
        """Return a wanted chunk with the request that brought it; one wanted again is the next request's."""
        if want.length is None:
            raise MeasurementError(f"{want.key} has no shard index")
        chunk = Chunk(chunk=want.chunk, key=want.key, offset=want.offset, length=want.length, request=None)
        parts = self._of_key.get(want.key)
        candidates = parts.with_byte(want.offset + want.length - 1) if parts else []
        if parts is None or not candidates:
            return chunk
        chunk.request, exchange = candidates[min(self._times_wanted[want], len(candidates) - 1)]
        self._times_wanted[want] += 1
        self.split |= exchange.arrived_ns(want.offset) is None
        chunk.wire = arrival(chunk, exchange, [e for _, e in parts.with_byte(want.offset)])
        if chunk.wire is not None:
            chunk.sent_ns = chunk.wire.sent_ns
            chunk.first_byte_ns = chunk.wire.first_byte_ns
            chunk.last_byte_ns = chunk.wire.last_byte_ns
        return chunk


class _Objects:
    """The successful requests for one object, by the bytes they brought: there may be one for each of its chunks."""

    def __init__(self, found: Sequence[tuple[int, Exchange]]) -> None:
        self._found = found
        spans = [exchange.span for _, exchange in found]
        self._begins, self._ends = np.array(spans, np.int64).T

    def with_byte(self, position: int) -> list[tuple[int, Exchange]]:
        """Return those that brought the byte at `position` of the object, in the order they were sent."""
        return [self._found[n] for n in np.flatnonzero((self._begins <= position) & (position < self._ends)).tolist()]


def _request(number: int, key: str, exchange: Exchange) -> Request:
    return Request(
        id=number,
        method=exchange.method,
        key=key,
        range=exchange.range,
        kind=_kind(key, exchange),
        status=exchange.status,
        sent_ns=exchange.sent_ns,
        headers_ns=exchange.headers_ns,
        first_byte_ns=exchange.first_byte_ns,
        last_byte_ns=exchange.last_byte_ns,
        wire=WireTimes(
            sent_ns=exchange.sent_ns, first_byte_ns=exchange.response_ns, last_byte_ns=exchange.last_byte_ns
        ),
        bytes=exchange.bytes,
    )


def _kind(key: str, exchange: Exchange) -> Kind:
    """Return what a request was for; an index is, as the store counts it, an object's last bytes without its first."""
    if exchange.method != "GET" or key.rpartition("/")[2] in _METADATA:
        return "metadata"
    asked = exchange.range
    return "index" if asked is not None and asked[0] > 0 and asked[1] == exchange.object_bytes else "data"
