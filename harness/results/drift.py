"""Whether the machine held still: readers that do not change with the commit under test."""

import itertools
import math
from collections.abc import Iterator, Sequence

import msgspec

from harness.results.cells import newest
from harness.results.figures import figure
from harness.results.metrics import DEFAULT_METRIC
from harness.results.records import PassRecord, RowRecord
from harness.results.sample import NETWORK_LIMIT

CONTROLS = ("zarrs-planned", NETWORK_LIMIT)
"""Readers whose code does not depend on the commit under test, the better control first."""

DRIFT = 0.05
"""A control whose median moved by more, with intervals apart, says that the machine moved."""


class ControlChange(msgspec.Struct, frozen=True, kw_only=True):
    """How far a control moved between two versions on one workload."""

    control: str
    label: str
    before: str
    after: str
    ratio: float
    """Of the medians, after over before."""
    drifted: bool


def control_changes(versions: dict[str, list[PassRecord]]) -> list[ControlChange]:
    """Compare the controls' times of each version with those of the version before it, in one place.

    A control counts only where it used the same libraries in both, and its medians have intervals.
    """
    found: list[ControlChange] = []
    names = list(versions)
    for before, after in itertools.pairwise(names):
        old = {(cell.row.reader, *cell.workload): cell.row for cell in newest(versions[before])}
        for cell in newest(versions[after]):
            base = old.get((cell.row.reader, *cell.workload))
            if cell.row.reader in CONTROLS and base is not None and base.versions == cell.row.versions:
                found += _control_change(cell.row, base, before, after)
    return found


def _control_change(row: RowRecord, base: RowRecord, before: str, after: str) -> Iterator[ControlChange]:
    new, old = figure(row, DEFAULT_METRIC), figure(base, DEFAULT_METRIC)
    if new is None or old is None or not (new.sure and old.sure):
        return
    quotient = new.median / old.median
    drifted = abs(math.log(quotient)) > math.log1p(DRIFT) and new.apart(old)
    yield ControlChange(
        control=row.reader, label=row.label, before=before, after=after, ratio=quotient, drifted=drifted
    )


def drift_notices(found: Sequence[ControlChange]) -> list[str]:
    """Say in one sentence per pair of versions whether the machine held still between them."""
    pairs: dict[tuple[str, str], list[ControlChange]] = {}
    for move in found:
        pairs.setdefault((move.before, move.after), []).append(move)
    return [_notice(before, after, moved) for (before, after), moved in pairs.items() if any(m.drifted for m in moved)]


def _notice(before: str, after: str, found: Sequence[ControlChange]) -> str:
    drifted = sorted(
        (m for m in found if m.drifted), key=lambda m: (CONTROLS.index(m.control), -abs(math.log(m.ratio)))
    )
    worst = drifted[0]
    more = (
        f", and {len(drifted) - 1} more of {len(found)} compared" if len(drifted) > 1 else f", of {len(found)} compared"
    )
    return (
        f"The machine drifted between {before} and {after}: control {worst.control} {100 * (worst.ratio - 1):+.0f} %"
        f" on {worst.label}{more}. Compare readers within a version, not versions."
    )
