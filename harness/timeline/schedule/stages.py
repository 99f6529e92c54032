"""The stages between a chunk's events, and how many requests were in flight."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from harness.timeline.model import Chunk, Request

STAGES = {
    "send_wait": "waiting to be sent",
    "first_byte": "first byte",
    "transfer": "transfer",
    "decode_wait": "waiting for decode",
    "decode": "decode",
    "copy_wait": "waiting for copy",
    "shard_copy": "copy into the shard's array",
    "copy": "copy into the final array",
}
"""Stage -> its name for people, in the order of a chunk's life."""

ENDS = (
    ("sent_ns", "send_wait"),
    ("first_byte_ns", "first_byte"),
    ("last_byte_ns", "transfer"),
    ("decode_start_ns", "decode_wait"),
    ("decoded_ns", "decode"),
    ("shard_copy_start_ns", "copy_wait"),
    ("shard_copy_ns", "shard_copy"),
    ("copy_start_ns", "copy_wait"),
    ("copied_ns", "copy"),
)
"""Event -> the stage that it ends; the time of an event that is not known is part of the next stage that is."""


class Span(NamedTuple):
    """Time that a chunk spent in a stage."""

    stage: str
    begin_ns: int
    end_ns: int

    @property
    def ns(self) -> int:
        """Length."""
        return self.end_ns - self.begin_ns


def spans(chunk: Chunk, begin_ns: int) -> Iterator[Span]:
    """Yield the stages of a chunk without gaps, from the call of the read to the chunk's last known event."""
    for event, stage in ENDS:
        end_ns = getattr(chunk, event)
        if end_ns is not None:
            yield Span(stage, begin_ns, end_ns)
            begin_ns = end_ns


def durations(chunk: Chunk, begin_ns: int) -> dict[str, int]:
    """Return the nanoseconds of each known stage of a chunk.

    Where a library decodes codec by codec over many chunks, only the time inside codecs is decode; the rest is waiting.
    """
    found: dict[str, int] = {}
    for span in spans(chunk, begin_ns):
        found[span.stage] = found.get(span.stage, 0) + span.ns
    if chunk.decode_busy_ns is not None and "decode" in found:
        between = max(0, found["decode"] - chunk.decode_busy_ns)
        found["decode"] -= between
        found["decode_wait"] = found.get("decode_wait", 0) + between
    return found


def in_flight(requests: Iterable[Request]) -> list[tuple[int, int]]:
    """Return ``(ns, requests in flight from then on)`` per change; requests without times are left out."""
    changes: dict[int, int] = {}
    for request in requests:
        if request.sent_ns is not None and request.last_byte_ns is not None:
            changes[request.sent_ns] = changes.get(request.sent_ns, 0) + 1
            changes[request.last_byte_ns] = changes.get(request.last_byte_ns, 0) - 1
    now, steps = 0, []
    for time_ns in sorted(changes):
        now += changes[time_ns]
        steps.append((time_ns, now))
    return steps
