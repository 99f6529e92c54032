"""From what a recorder noted to a timeline: requests in order, chunks with their coordinates, and what was checked."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from harness.datasets.shards import MISSING, ShardIndex, parse_index
from harness.errors import MeasurementError
from harness.machine.cpu import cores
from harness.timeline.model import Chunk, Kind, Request, Timeline
from harness.timeline.validity import Wanted, examine
from harness.timeline.zarr_python import events
from harness.timeline.zarr_python.selection import inner_chunks, shard_coordinates

_SUCCESS = (200, 206)
_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")

NOTE_EVENT_2 = "event 2 is when the response's headers had arrived: this store does not tell of the body's first byte"
NOTE_BULK = "uncompressed whole shards were copied in bulk: their chunks have no event 4 and no copy of their own"
NOTE_SPLIT = "a chunk that spans several requests is shown with the one that ended last"


def assemble(
    recording: events.Recording,
    *,
    reader: str = "zarr-python",
    versions: dict[str, str] | None = None,
    workload: dict[str, Any] | None = None,
    target: str = "",
) -> Timeline:
    """Put a recording together.

    Chunk coordinates come from the shard indexes that were fetched, and what was wanted from the selections zarr
    asked its pipeline for; `valid` says whether the two agree.

    Parameters
    ----------
    recording
        What was noted.
    reader, versions, workload, target
        As in `Timeline`; nothing of the recording depends on them.
    """
    begin_ns, end_ns = recording.begin_ns, recording.end_ns
    if begin_ns is None or end_ns is None:
        raise MeasurementError("nothing was recorded")
    requests = _Requests(recording.gets)
    indexes = _indexes(recording.gets)
    unknown: list[str] = []
    chunks = list(_chunks(recording, requests, indexes, unknown))
    wanted = list(_wanted(recording.items, indexes))
    bulk = list(_bulk(recording.items, {(c.key, c.offset) for c in chunks}, wanted, requests))
    chunks = sorted([*chunks, *bulk], key=lambda c: (c.sent_ns or 0, c.key, c.offset))
    valid = examine(chunks, requests.all, wanted)
    valid.failures += unknown[:1]
    valid.ok = not valid.failures
    return Timeline(
        reader=reader,
        versions=versions or {},
        workload=workload or {},
        target=target,
        begin_ns=begin_ns,
        end_ns=end_ns,
        cores=cores(),
        valid=valid,
        requests=requests.all,
        chunks=chunks,
        notes=[*recording.notes, *_notes(requests.all, chunks, split=requests.split, bulk=bool(bulk))],
    )


class _Requests:
    """All requests in the order they were sent, and which of them brought a range of a `get`."""

    def __init__(self, gets: Sequence[events.Get]) -> None:
        made = [(get, self._made(get)) for get in gets]
        self.all = sorted((r for _, rs in made for r in rs), key=lambda r: r.sent_ns or r.last_byte_ns or 0)
        for number, request in enumerate(self.all):
            request.id = number
        self._of = {id(get): [r for r in rs if r.method == "GET"] for get, rs in made}
        self._gets = gets
        self.split = False

    def bringing(self, get: events.Get, offset: int, length: int) -> list[Request]:
        """Return the requests that brought a range, the one that ended last at the end."""
        found = [r for r in self._of[id(get)] if r.status is None or r.status in _SUCCESS]
        if len(found) > 1:  # a client that splits large objects, or asked again
            found = [r for r in found if r.range is not None and r.range[0] < offset + length and r.range[1] > offset]
            self.split |= len(found) > 1
        return sorted(found, key=lambda r: r.last_byte_ns or 0)

    def of_key(self, key: str) -> events.Get | None:
        """Return the request for a whole object."""
        return next((get for get in self._gets if get.key == key and get.asked is None), None)

    @staticmethod
    def _made(get: events.Get) -> list[Request]:
        kind: Kind = "data"
        if get.is_index:
            kind = "index"
        elif get.key.rpartition("/")[2] in _METADATA:
            kind = "metadata"
        if get.exchanges:
            return [_of_exchange(get, exchange, kind) for exchange in get.exchanges]
        known = get.asked is not None and get.begin is not None and get.end is not None
        merged = get.asked is None and get.sent_ns is None
        return [
            Request(
                id=0,
                method="GET",
                key=get.key,
                range=(get.begin or 0, get.end or 0) if known or merged else None,
                kind=kind,
                sent_ns=get.sent_ns,
                headers_ns=get.headers_ns,
                first_byte_ns=get.stamps[0][1] if get.stamps else None,
                last_byte_ns=get.stamps[-1][1] if get.stamps else get.last_byte_ns,
                bytes=get.nbytes,
            )
        ]


def _of_exchange(get: events.Get, exchange: events.Exchange, kind: Kind) -> Request:
    return Request(
        id=0,
        method=exchange.method,
        key=get.key,
        range=exchange.range,
        kind=kind if exchange.method == "GET" else "metadata",
        status=exchange.status,
        sent_ns=exchange.sent_ns,
        headers_ns=exchange.headers_ns,
        last_byte_ns=exchange.last_byte_ns,
        bytes=exchange.nbytes,
    )


def _indexes(gets: Sequence[events.Get]) -> dict[str, ShardIndex]:
    """Return the shard indexes that were fetched, by key."""
    return {
        get.key: parse_index(get.index, get.layout.chunks_per_shard)
        for get in gets
        if get.index is not None and get.layout is not None
    }


def _chunks(
    recording: events.Recording, requests: _Requests, indexes: dict[str, ShardIndex], unknown: list[str]
) -> Iterator[Chunk]:
    """Yield the chunks that were decoded; the index of a whole shard may be decoded too, but is copied nowhere."""
    places: dict[str, dict[tuple[int, int], tuple[int, ...]]] = {}
    ndims = {item.key: len(item.shape) for item in recording.items}
    for get in recording.gets:
        if get.key not in ndims:
            continue
        shard = shard_coordinates(get.key, ndims[get.key])
        if get.key not in places:
            places[get.key] = _places(shard, indexes.get(get.key), get.layout)
        for seen in get.chunks:
            chunk = shard if get.layout is None else places[get.key].get((seen.offset, seen.length))
            if chunk is not None:
                yield _chunk(chunk, seen, requests)
            elif seen.copied[1] is not None:
                unknown.append(f"{get.key}: what was decoded at byte {seen.offset} is no chunk of its index")


def _places(
    shard: tuple[int, ...], index: ShardIndex | None, layout: events.Layout | None
) -> dict[tuple[int, int], tuple[int, ...]]:
    """Return which chunk stands at each (offset, length) of a shard."""
    if index is None or layout is None:
        return {}
    stored = np.argwhere(index.offsets != MISSING)
    at = tuple(stored.T)
    chunks = (stored + np.array(shard) * np.array(layout.chunks_per_shard)).tolist()
    spans = zip(index.offsets[at].tolist(), index.lengths[at].tolist(), strict=True)
    return {span: tuple(chunk) for span, chunk in zip(spans, chunks, strict=True)}


def _chunk(chunk: tuple[int, ...], seen: events.Chunk, requests: _Requests) -> Chunk:
    found = _arrival(seen.get, seen.offset, seen.length, requests)
    return Chunk(
        chunk=chunk,
        key=seen.get.key,
        offset=seen.offset,
        length=seen.length,
        **found,
        decode_start_ns=seen.decode_start_ns,
        decoded_ns=seen.decoded_ns,
        shard_copy_ns=seen.shard_copied[1],
        copied_ns=seen.copied[1],
        thread=seen.thread,
        decode_busy_ns=seen.busy_ns,
        shard_copy_start_ns=seen.shard_copied[0],
        copy_start_ns=seen.copied[0],
    )


def _arrival(get: events.Get, offset: int, length: int, requests: _Requests) -> dict[str, Any]:
    """Return the request that brought a chunk and events 1 to 3: of its own bytes where those are stamped."""
    brought = requests.bringing(get, offset, length)
    if not brought:
        return {"request": None}
    sent_ns = _earliest(request.sent_ns for request in brought)
    first_ns = _earliest(request.first_byte_ns or request.headers_ns for request in brought)
    last_ns = brought[-1].last_byte_ns
    if get.stamps:
        ends = [end for end, _ in get.stamps]
        first_ns = get.stamps[bisect_right(ends, offset)][1]
        last_ns = get.stamps[bisect_left(ends, offset + length)][1]
    return {"request": brought[-1].id, "sent_ns": sent_ns, "first_byte_ns": first_ns, "last_byte_ns": last_ns}


def _earliest(times: Iterable[int | None]) -> int | None:
    return min((time for time in times if time is not None), default=None)


def _wanted(items: Sequence[events.Item], indexes: dict[str, ShardIndex]) -> Iterator[Wanted]:
    """Yield the stored chunks that zarr's selections touch."""
    for item in items:
        shard = shard_coordinates(item.key, len(item.shape))
        if item.layout is None:
            yield Wanted(shard, item.key, 0, None)
            continue
        index = indexes.get(item.key)
        if index is None:  # the shard is not stored
            continue
        for inner in inner_chunks(item.selection, item.shape, item.layout.chunk_shape):
            offset, length = index.offsets[inner], index.lengths[inner]
            if offset != MISSING:
                chunk = tuple(s * n + i for s, n, i in zip(shard, item.layout.chunks_per_shard, inner, strict=True))
                yield Wanted(chunk, item.key, int(offset), int(length))


def _bulk(
    items: Sequence[events.Item], seen: set[tuple[str, int]], wanted: Sequence[Wanted], requests: _Requests
) -> Iterator[Chunk]:
    """Yield the chunks of shards that were copied whole, without a codec having seen them."""
    whole = {item.key: item.copied for item in items if item.copied is not None}
    for want in wanted:
        if want.key not in whole or (want.key, want.offset) in seen:
            continue
        get = requests.of_key(want.key)
        if get is not None and want.length is not None:
            found = _arrival(get, want.offset, want.length, requests)
            yield Chunk(
                chunk=want.chunk,
                key=want.key,
                offset=want.offset,
                length=want.length,
                **found,
                copied_ns=whole[want.key][1],
                copy_start_ns=whole[want.key][0],
            )


def _notes(requests: Sequence[Request], chunks: Sequence[Chunk], *, split: bool, bulk: bool) -> Iterator[str]:
    if any(r.first_byte_ns is None for r in requests if r.kind == "data"):
        yield NOTE_EVENT_2 if any(r.headers_ns for r in requests) else "event 2 is unknown: the store does not tell"
    if any(r.sent_ns is None for r in requests):
        yield "some requests have no event 1: they were not seen when they were sent"
    if split:
        yield NOTE_SPLIT
    if bulk:
        yield NOTE_BULK
