"""Chunks of a reader that tells of its requests only: each wanted chunk with the request that brought it.

What was decoded when such a reader tells without naming the chunk: a decode belongs to the chunk whose stored bytes it
was given, which length and CRC32C identify.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import cast

import google_crc32c
import msgspec

from harness.targets.client import open_store, reaching
from harness.timeline.model import Chunk, Request, Timeline
from harness.timeline.validity import Wanted
from harness.workload.model import Workload

NOTE_REQUEST_TIMES = "first and last byte of a chunk are its request's: this client does not tell of parts of a body"
NOTE_UNSEEN_COPY = "event 5 is unknown: the library copies decoded chunks into the final array where it has no hook"

_AT_ONCE = 16


class Decode(msgspec.Struct, frozen=True, kw_only=True):
    """A decode by what was decoded; times as in a timeline."""

    length: int
    """Stored bytes that the first codec was given."""
    crc32c: int
    """Of those bytes."""
    thread: int
    begin_ns: int
    end_ns: int
    copied_ns: int | None
    """When it was in the final array; None where the library copies later, unseen."""


def link(timeline: Timeline, want: Sequence[Wanted]) -> None:
    """Give a timeline without chunks those that were wanted, with events 1 to 3 of the requests that brought them.

    A chunk that spans several requests, or that was asked for again, has the request whose last byte came last.
    """
    by_key: dict[str, list[Request]] = defaultdict(list)
    for request in timeline.requests:
        if request.kind == "data":
            by_key[request.key].append(request)
    timeline.chunks = [_linked(one, by_key[one.key]) for one in want]
    timeline.notes.append(NOTE_REQUEST_TIMES)


def link_decodes(timeline: Timeline, decodes: Sequence[Decode], workload: Workload) -> None:
    """Give linked chunks the decodes of their stored bytes, read from the target, and note what stays unknown.

    Chunks that are stored as the same bytes have those bytes' decodes in the order in which they came. Chunks without
    certainty have none: wanted several times, or decoded more or less often than they are wanted.
    """
    sized = [chunk for chunk in timeline.chunks if chunk.length]  # an object without shard index tells no length
    crcs = _stored_crcs(workload, {(chunk.key, chunk.offset, chunk.length) for chunk in sized})
    wanted: dict[tuple[int, int], list[Chunk]] = defaultdict(list)
    for chunk in sized:
        wanted[chunk.length, crcs[chunk.key, chunk.offset, chunk.length]].append(chunk)
    found: dict[tuple[int, int], list[Decode]] = defaultdict(list)
    for decode in decodes:
        found[decode.length, decode.crc32c].append(decode)
    for identity, chunks in wanted.items():
        if len({(chunk.key, chunk.offset) for chunk in chunks}) == len(chunks) == len(found[identity]):
            _assign_decodes(chunks, found[identity])
    _note_unknown(timeline)


def _assign_decodes(chunks: Sequence[Chunk], decodes: Sequence[Decode]) -> None:
    came = sorted(chunks, key=lambda chunk: chunk.last_byte_ns or 0)
    for chunk, decode in zip(came, sorted(decodes, key=lambda decode: decode.begin_ns), strict=True):
        chunk.decode_start_ns, chunk.decoded_ns, chunk.thread = decode.begin_ns, decode.end_ns, decode.thread
        chunk.copied_ns = decode.copied_ns


def _note_unknown(timeline: Timeline) -> None:
    """Say what is unknown; an event 5 that only some chunks have would make the others look late: then none has it."""
    undecoded = sum(chunk.decode_start_ns is None for chunk in timeline.chunks)
    if undecoded:
        timeline.notes.append(
            f"event 4 is unknown for {undecoded} of {len(timeline.chunks)} chunks: their decodes cannot be told apart"
        )
    if any(chunk.copied_ns is None for chunk in timeline.chunks):
        for chunk in timeline.chunks:
            chunk.copied_ns = None
        timeline.notes.append(NOTE_UNSEEN_COPY)


def _linked(want: Wanted, requests: Sequence[Request]) -> Chunk:
    chunk = Chunk(chunk=want.chunk, key=want.key, offset=want.offset, length=want.length or 0, request=None)
    brought = [request for request in requests if _holds(request, chunk)]
    if brought:
        request = max(brought, key=lambda one: one.last_byte_ns or 0)
        chunk.request, chunk.sent_ns = request.id, request.sent_ns
        chunk.first_byte_ns, chunk.last_byte_ns = request.first_byte_ns, request.last_byte_ns
    return chunk


def _holds(request: Request, chunk: Chunk) -> bool:
    """Whether the chunk's last byte came with the request."""
    last = chunk.offset + chunk.length - 1
    return request.range is None or request.range[0] <= last < request.range[1]


def _stored_crcs(workload: Workload, places: set[tuple[str, int, int]]) -> Mapping[tuple[str, int, int], int]:
    """Return the CRC32C of stored byte ranges, ``(key, offset, length) -> crc``."""
    by_key: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for key, offset, length in sorted(places):
        by_key[key].append((offset, length))
    with reaching(workload.target):
        return asyncio.run(_fetch_crcs(workload, by_key))


async def _fetch_crcs(
    workload: Workload, by_key: Mapping[str, Sequence[tuple[int, int]]]
) -> dict[tuple[str, int, int], int]:
    store = open_store(workload.target, prefix=workload.array.key)
    permits = asyncio.Semaphore(_AT_ONCE)
    crcs: dict[tuple[str, int, int], int] = {}

    async def fetch(key: str, ranges: Sequence[tuple[int, int]]) -> None:
        async with permits:
            starts, lengths = zip(*ranges, strict=True)
            for (offset, length), body in zip(
                ranges, await store.get_ranges_async(key, starts=starts, lengths=lengths), strict=True
            ):
                crcs[key, offset, length] = google_crc32c.value(bytes(cast("bytes", body)))

    await asyncio.gather(*(fetch(key, ranges) for key, ranges in by_key.items()))
    return crcs
