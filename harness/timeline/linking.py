"""Chunks of a reader that tells of its requests only: each wanted chunk with the request that brought it."""

from collections import defaultdict
from collections.abc import Sequence

from harness.timeline.model import Chunk, Request, Timeline
from harness.timeline.validity import Wanted

NOTE_REQUEST_TIMES = "first and last byte of a chunk are its request's: this client does not tell of parts of a body"


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
