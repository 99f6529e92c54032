"""The sweep over gaps: one merged range against separate ranges, by gap, first byte and rate of a connection."""

from collections.abc import Sequence
from typing import Any

import msgspec

from harness.results.intervals import Interval, of_processes
from harness.results.sample import Sample
from harness.results.sweeps import as_fields

SCHEMA = 1


class GapPair(msgspec.Struct, frozen=True, kw_only=True):
    """A read whose wanted chunks lie some stored bytes apart, merged and in separate ranges."""

    gap: int
    """Stored chunks between two wanted ones."""
    gap_bytes: int
    """The same in bytes, the median of all neighbours."""
    merged: list[Sample]
    separate: list[Sample]
    na: str | None = None
    error: str | None = None

    def ratio(self) -> Interval | None:
        """Return the merged range's seconds over those of separate ones in the same rounds; None where unknown."""
        others = {(sample.session, sample.round_number): sample.seconds for sample in self.separate}
        found: dict[int | None, list[float | None]] = {}
        for sample in self.merged:
            other = others.get((sample.session, sample.round_number))
            found.setdefault(sample.session, []).append(None if other is None else sample.seconds / other)
        return of_processes(found.values())


class GapCell(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a reader with one service time of the store, gaps in ascending order."""

    reader: str
    first_byte_ms: float
    connection_mb_s: float
    pairs: list[GapPair]

    @property
    def rule_bytes(self) -> float:
        """The gap that takes as long as another first byte: latency x bandwidth of a connection."""
        return self.first_byte_ms / 1e3 * self.connection_mb_s * 1e6

    def best_gap(self) -> "BestGap | None":
        """Return up to which gap merging pays; None without a ratio."""
        return best_gap([(pair.gap_bytes, found) for pair in self.pairs if (found := pair.ratio()) is not None])


class BestGap(msgspec.Struct, frozen=True, kw_only=True):
    """Up to which gap one merged range is faster, in bytes."""

    above: int | None
    """The largest gap before the turn at which the merged range was no slower; None where it was slower at all."""
    below: int | None
    """The next gap, at which separate ranges were faster; None where they never were."""
    sure_above: int | None
    """The largest gap at which the merged range was faster for sure."""
    sure_below: int | None
    """The smallest gap at which separate ranges were faster for sure."""


class GapSweep(msgspec.Struct, frozen=True, kw_only=True):
    """Which merge gap is best, over first bytes and rates of a connection."""

    schema: int
    kind: str = "gap"
    started: str
    """Local time with its offset, ISO 8601."""
    label: str
    """The workload's; its gap plays no part."""
    target: str
    cores: int
    in_flight: int
    sessions: int
    versions: dict[str, str]
    cells: list[GapCell]


def best_gap(ratios: Sequence[tuple[int, Interval]]) -> BestGap | None:
    """Return where merging ceases to pay.

    Parameters
    ----------
    ratios
        Bytes of a gap, and the merged range's seconds over those of separate ones, in ascending order of gaps.
    """
    if not ratios:
        return None
    turn = next((place for place, (_, found) in enumerate(ratios) if found.median > 1), len(ratios))
    return BestGap(
        above=ratios[turn - 1][0] if turn else None,
        below=ratios[turn][0] if turn < len(ratios) else None,
        sure_above=max((gap for gap, found in ratios if found.sure and found.high < 1), default=None),
        sure_below=min((gap for gap, found in ratios if found.sure and found.low > 1), default=None),
    )


def report(sweep: GapSweep) -> dict[str, Any]:
    """Return a sweep as JSON, with the rule, the ratios and the best gap of each cell beside the samples."""
    fields: dict[str, Any] = msgspec.to_builtins(sweep)
    for cell, of in zip(sweep.cells, fields["cells"], strict=True):
        of["rule_bytes"] = cell.rule_bytes
        of["best_gap"] = msgspec.to_builtins(cell.best_gap())
        for pair, each in zip(cell.pairs, of["pairs"], strict=True):
            each["ratio"] = as_fields(pair.ratio())
    return fields
