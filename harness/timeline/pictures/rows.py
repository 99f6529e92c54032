"""The rows of a picture: chunks in the order in which they were fetched, in groups where there are too many."""

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from harness.timeline.model import Chunk, Timeline
from harness.timeline.schedule import Analysis

FIVE = ("sent_ns", "first_byte_ns", "last_byte_ns", "decode_start_ns", "copied_ns")
"""The five events of the picture."""
FIVE_NAMES = ("GET sent", "first byte", "last byte", "decompression starts", "copied into the final array")

_MUCH = 1.2
"""From so many times the wanted bytes on it is said how many were fetched."""


class Row(NamedTuple):
    """One line of a picture."""

    label: str
    chunks: Sequence[Chunk]

    def event(self, name: str) -> float | None:
        """Return the median of an event's times, None where no chunk knows it."""
        times = [time for chunk in self.chunks if (time := getattr(chunk, name)) is not None]
        return statistics.median(times) if times else None


def ordered(timeline: Timeline) -> list[Chunk]:
    """Return the chunks shard by shard in the order of their first GETs, those of a shard as they were sent."""
    begun: dict[str, int] = {}
    for chunk in timeline.chunks:
        sent = chunk.sent_ns if chunk.sent_ns is not None else timeline.begin_ns
        begun[chunk.key] = min(sent, begun.get(chunk.key, sent))
    return sorted(timeline.chunks, key=lambda c: (begun[c.key], c.key, c.sent_ns or 0, c.offset))


def rows(timeline: Timeline, most: int) -> list[Row]:
    """Return at most `most` rows: a chunk each, a shard each, or equal shares of all chunks."""
    chunks = ordered(timeline)
    if len(chunks) <= most:
        return [Row(name(chunk), [chunk]) for chunk in chunks]
    shards: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        shards.setdefault(chunk.key, []).append(chunk)
    if 1 < len(shards) <= most:
        return [Row(f"{key} x{len(group)}", group) for key, group in shards.items()]
    edges = [round(number * len(chunks) / most) for number in range(most + 1)]
    groups = [chunks[begin:end] for begin, end in pairwise(edges)]
    return [Row(f"{name(group[0])} +{len(group) - 1}", group) for group in groups]


def name(chunk: Chunk) -> str:
    """Return a chunk's coordinates as text."""
    return ",".join(map(str, chunk.chunk))


def title(timeline: Timeline) -> str:
    """Return what was read, by whom and how long it took."""
    label = timeline.workload.get("label") or timeline.workload.get("pattern") or "read"
    ms = (timeline.end_ns - timeline.begin_ns) / 1e6
    return f"{timeline.reader}{_version(timeline)}: {label} at {timeline.target}, {ms:.1f} ms"


def _version(timeline: Timeline) -> str:
    """Return the version of the library that gave the reader its name."""
    named = [package for package in timeline.versions if timeline.reader.startswith(package)]
    package = max(named, key=len, default=None)
    return "" if package is None else f", {package} {timeline.versions[package]}"


def facts(timeline: Timeline, analysis: Analysis) -> str:
    """Return how much was asked for, in how many requests, and what recording cost."""
    allowed = timeline.workload.get("in_flight")
    parts = [
        f"{len(timeline.chunks)} chunks, {len(timeline.requests)} requests",
        f"{analysis.in_flight} in flight" + (f" of {allowed}" if allowed else ""),
        f"{analysis.fetched_bytes} bytes fetched for {analysis.wanted_bytes} wanted{_over_read(analysis)}",
        f"{analysis.index_bytes} of indexes" if analysis.index_bytes else "",
        lag(timeline),
        cost(timeline),
    ]
    return ", ".join(part for part in parts if part)


def _over_read(analysis: Analysis) -> str:
    """Return how many times the wanted bytes were fetched, where it is much more: they take time too."""
    times = analysis.fetched_bytes / analysis.wanted_bytes if analysis.wanted_bytes else 0.0
    return f" ({times:.3g} times)" if times >= _MUCH else ""


def lag(timeline: Timeline) -> str:
    """Return how much later than on the wire the reader saw bytes, in words; empty without a capture."""
    seen = {} if timeline.capture is None else timeline.capture.lag
    names = {"first_byte_ns": "first", "last_byte_ns": "last"}
    medians = {text: seen[key].median_ns for key, text in names.items() if key in seen}
    known = [f"{text} byte {ns / 1e6:.1f} ms" for text, ns in medians.items() if ns is not None]
    return f"seen after the wire by (median) {', '.join(known)}" if known else ""


def cost(timeline: Timeline) -> str:
    """Return what recording cost, in words."""
    overhead = timeline.overhead
    if overhead is None:
        return ""
    return f"recording cost {overhead.ratio - 1:+.1%} ({overhead.pairs} pairs)"
