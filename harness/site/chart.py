"""Readers against the network limit as SVG: a panel per workload, zarr-python's versions above the other readers.

A bar is how many times slower than the network limit a reader is, on a logarithmic axis that begins at the limit.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape

from harness.results import cells, drift
from harness.results.answer import Answer, best, comparable, usual_flags
from harness.results.answer_lines import factor
from harness.results.cells import Cell, Workload
from harness.results.intervals import Interval
from harness.results.records import PassRecord, RowRecord
from harness.results.sample import FLAGS, NETWORK_LIMIT
from harness.results.slower import slower
from harness.results.text import short_label

Kind = Literal["tested", "earlier", "other", "control"]
"""The newest version of what is under test, an earlier one, another reader, one that only shows what is possible."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One reader at one version on a workload."""

    label: str
    kind: Kind
    slower: Interval | None
    """Times slower than the network limit; None where that is not known."""
    note: str = ""
    """Why it is not known, or the marks of flags that at least half of the samples carry."""

    @property
    def value(self) -> str:
        """The bar in words, e.g. ``1.48x cpu``, with the number of samples where they are too few."""
        if self.slower is None:
            return self.note
        few = "" if self.slower.sure else f"({self.slower.count} sample{'' if self.slower.count == 1 else 's'})"
        return " ".join(filter(None, (f"{factor(self.slower.median)}x", few, self.note)))

    @property
    def interval(self) -> str:
        """The interval in words; empty where there are too few samples for one."""
        if self.slower is None or not self.slower.sure:
            return ""
        return f"{factor(self.slower.low)} to {factor(self.slower.high)}"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A workload: of each version the best of the readers under test, and the other readers at the newest version."""

    pattern: str
    workload: str
    bars: Sequence[Bar]

    @property
    def farthest(self) -> float:
        """How far the newest version under test is from the limit; 0 where that is not known."""
        known = [bar.slower.median for bar in self.bars if bar.kind == "tested" and bar.slower is not None]
        return known[-1] if known else 0.0


def panels(passes: Sequence[PassRecord], under_test: Collection[str]) -> list[Panel]:
    """Return a panel for each workload, in the order of patterns.

    Parameters
    ----------
    passes
        Of one place, in the order of versions.
    under_test
        The readers that the versions are about.
    """
    versions = {name: cells.by_workload(cells.newest(of)) for name, of in comparable(passes).items()}
    patterns = list(dict.fromkeys(workload[0] for of in versions.values() for workload in of))
    workloads = dict.fromkeys(workload for of in versions.values() for workload in of)
    return [_panel(one, versions, under_test) for one in sorted(workloads, key=lambda w: patterns.index(w[0]))]


def chosen(found: Iterable[Panel]) -> list[Panel]:
    """Return one panel of each pattern: that in which what is under test is farthest from the limit."""
    farthest: dict[str, Panel] = {}
    for panel in found:
        if panel.pattern not in farthest or panel.farthest > farthest[panel.pattern].farthest:
            farthest[panel.pattern] = panel
    return list(farthest.values())


def _panel(
    workload: Workload, versions: Mapping[str, Mapping[Workload, Mapping[str, Cell]]], under_test: Collection[str]
) -> Panel:
    measured = {name: of[workload] for name, of in versions.items() if workload in of}
    newest = list(measured)[-1]
    tested = {name: [cell for cell in of.values() if cell.row.reader in under_test] for name, of in measured.items()}
    bars = [_tested(name, of, "tested" if name == newest else "earlier") for name, of in tested.items() if of]
    for reader, cell in measured[newest].items():
        if reader not in (*under_test, NETWORK_LIMIT):
            bars.append(_bar(reader, "control" if reader in drift.CONTROLS else "other", cell.row))
    any_row = next(iter(measured[newest].values())).row
    return Panel(pattern=any_row.pattern.replace("_", " "), workload=short_label(any_row), bars=bars)


def _tested(version: str, found: Sequence[Cell], kind: Kind) -> Bar:
    nearest = best(found)
    row = (nearest[0] if nearest else found[0]).row
    family, _, rest = row.reader.partition("+")
    return _bar(f"{family} {version}{f' +{rest}' if rest else ''}", kind, row)


def _bar(label: str, kind: Kind, row: RowRecord) -> Bar:
    found = slower(row.samples, row.in_flight)
    if found.interval is None:
        return Bar(label=label, kind=kind, slower=None, note=_why_not(row) or found.brief or "no limit")
    marks = (FLAGS[flag].mark for flag in usual_flags(row) if flag in FLAGS)
    return Bar(label=label, kind=kind, slower=found.interval, note=" ".join(filter(None, (found.brief, *marks))))


def _why_not(row: RowRecord) -> str:
    """Return why a row has no samples; empty where it has some."""
    if row.na is not None:
        return "n/a"
    return "failed" if row.error is not None else ""


_ROW, _BAR, _HEAD, _AXIS, _EDGE = 16, 11, 30, 22, 8
_LABEL_ABOVE = 15
"""Height of a label that stands above its bar and not beside it."""
_LETTER = 6.4
_ROOM, _MOST_ROOM = 104, 0.42
"""Width that is kept for the values of bars, at least, and at most as a part of the picture's."""
_NARROW = 500
"""Below this width labels stand above their bars."""
_TICKS, _CLOSE_TICKS = (1, 2, 5), (1, 1.5, 2, 3, 5, 7)
_STYLE = (
    ".zcb-chart text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1b1f24}"
    ".zcb-chart .soft{fill:#5b6472}.zcb-chart .head{font-weight:600}.zcb-chart .plain{font-weight:400}"
    ".zcb-chart .ground{fill:#fff}"
    ".zcb-chart .line{stroke:#e2e5ea}.zcb-chart .limit{stroke:#5b6472}.zcb-chart .whisker{stroke:#1b1f24;fill:none}"
    ".zcb-chart .tested{fill:#0a58b8}.zcb-chart .earlier{fill:#8fb9ec}.zcb-chart .other{fill:#2f8f7b}"
    ".zcb-chart .control{fill:#a7d3c9}.zcb-chart .few{fill:#d3d7dd;stroke:#8a93a0;stroke-dasharray:3 2}"
    "@media(prefers-color-scheme:dark){.zcb-chart text{fill:#e7eaee}.zcb-chart .soft{fill:#a0a9b5}"
    ".zcb-chart .ground{fill:#15181c}.zcb-chart .line{stroke:#2b3138}.zcb-chart .limit{stroke:#a0a9b5}"
    ".zcb-chart .whisker{stroke:#f2f4f7}.zcb-chart .tested{fill:#4a94f0}.zcb-chart .earlier{fill:#2d527f}"
    ".zcb-chart .other{fill:#3aa58f}.zcb-chart .control{fill:#24594e}"
    ".zcb-chart .few{fill:#343a42;stroke:#7d8794}}"
)


def svg(
    shown: Sequence[Panel], *, title: str, name: str, width: int = 860, ends: tuple[float, float] | None = None
) -> str:
    """Return panels as one SVG document, which can also stand in a page.

    Parameters
    ----------
    shown
        From top to bottom, at least one.
    title
        What the picture is, for whoever does not see it.
    name
        Begins the picture's ids: another one for each picture of a page.
    width
        In the units of the picture, in which letters are 12 high; in a narrow one labels stand above their bars.
    ends
        Of the axis, as `axis` returns them, so that several pictures share theirs; by default the panels' own.
    """
    return _Drawing(shown, title, name, width, ends or axis(shown)).document()


def title(said: Answer) -> str:
    """Return what the picture of an answer's place shows, in words."""
    return f"Times slower than the network limit, by pattern and reader, {said.place}"


def axis(shown: Iterable[Panel]) -> tuple[float, float]:
    """Return the ends of an axis on which every bar and interval of panels fits, and the limit itself."""
    known = [bar.slower for panel in shown for bar in panel.bars if bar.slower is not None]
    low = min([1.0, *(one.low if one.sure else one.median for one in known)])
    high = max([2.0, *(one.high if one.sure else one.median for one in known)])
    return low, high


class _Drawing:
    def __init__(self, shown: Sequence[Panel], title: str, name: str, width: int, ends: tuple[float, float]) -> None:
        self._panels, self._title, self._name, self._width = shown, title, name, width
        self._low, self._high = (math.log(end) for end in ends)
        longest = max((len(bar.label) for panel in shown for bar in panel.bars), default=0)
        said = max((len(bar.value) for panel in shown for bar in panel.bars), default=0)
        self._room = max(_ROOM, min(said * _LETTER, _MOST_ROOM * width))
        self._above = _LABEL_ABOVE if width < _NARROW else 0
        self._left = _EDGE if self._above else _EDGE + longest * _LETTER + 6
        self._head = _HEAD + self._above
        self._row = _ROW + self._above + (4 if self._above else 0)
        self._height = _AXIS + sum(self._head + len(panel.bars) * self._row for panel in shown) + _EDGE

    def document(self) -> str:
        ids = f"{self._name}-title {self._name}-desc"
        body = "\n".join([*self._axis(), *self._all()])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="zcb-chart" width="{self._width}" '
            f'viewBox="0 0 {self._width} {self._height}" role="img" aria-labelledby="{ids}">\n'
            f'<title id="{self._name}-title">{escape(self._title)}</title>\n'
            f'<desc id="{self._name}-desc">{escape(self._described())}</desc>\n<style>{_STYLE}</style>\n'
            f'<rect class="ground" width="{self._width}" height="{self._height}"/>\n{body}\n</svg>\n'
        )

    def _described(self) -> str:
        return " ".join(
            f"{panel.pattern}, {panel.workload}: {', '.join(f'{bar.label} {bar.value}' for bar in panel.bars)}."
            for panel in self._panels
        )

    def _x(self, times: float) -> float:
        share = (math.log(times) - self._low) / (self._high - self._low)
        return self._left + share * (self._width - _EDGE - self._room - self._left)

    def _axis(self) -> Iterator[str]:
        for tick in _ticks(math.exp(self._low), math.exp(self._high)):
            x, kind = self._x(tick), "limit" if tick == 1 else "line"
            yield f'<path class="{kind}" d="M{x:.1f} {_AXIS}V{self._height - _EDGE}"/>'
            text = "network limit" if tick == 1 and not self._above else f"{tick:g}x"
            yield _text(x, _AXIS - 7, text, "soft", anchor="middle")

    def _all(self) -> Iterator[str]:
        y = _AXIS
        for panel in self._panels:
            yield f'<rect class="ground" x="0" y="{y}" width="{self._width}" height="{self._head - 4}"/>'
            place = f'x="{_EDGE}" dy="{_LABEL_ABOVE}"' if self._above else 'dx="4"'
            workload = f'<tspan class="soft plain" {place}>{escape(panel.workload)}</tspan>'
            yield f'<text x="{_EDGE}" y="{y + 20}" class="head">{escape(panel.pattern)}{workload}</text>'
            y += self._head
            for bar in panel.bars:
                yield from self._bar(bar, y)
                y += self._row

    def _bar(self, bar: Bar, y: int) -> Iterator[str]:
        if self._above:
            yield _text(self._left + 4, y + _BAR - 1, bar.label, "")  # beside the line of the limit
        else:
            yield _text(self._left - 6, y + _BAR - 1, bar.label, "", anchor="end")
        y += self._above
        if bar.slower is None:
            yield _text(self._x(1) + 5, y + _BAR - 1, bar.value, "soft")
            return
        start, end = sorted((self._x(1), self._x(bar.slower.median)))
        kind = bar.kind if bar.slower.sure else "few"
        yield (
            f'<rect class="{kind}" x="{start:.1f}" y="{y}" width="{max(1.0, end - start):.1f}" height="{_BAR}">'
            f"<title>{escape(f'{bar.label}: {_said(bar.slower)}')}</title></rect>"
        )
        last = end
        if bar.slower.sure:
            low, high = self._x(bar.slower.low), self._x(bar.slower.high)
            middle = y + _BAR / 2
            yield f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {y + 2}v7M{high:.1f} {y + 2}v7"/>'
            last = max(end, high)
        yield _text(last + 5, y + _BAR - 1, bar.value, "soft" if kind == "few" else "")


def _said(slower: Interval) -> str:
    spread = f", {slower.low:.3g} to {slower.high:.3g}" if slower.sure else ""
    return f"{slower.median:.3g} times slower than the network limit{spread}, {slower.count} samples"


def _ticks(low: float, high: float) -> Iterator[float]:
    """Yield 1, 2, 5, 10 and so on within the ends; 0.5 and so on where something was faster than the limit."""
    ticks = _CLOSE_TICKS if high / low < 8 else _TICKS
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for tick in ticks:
            if low <= tick * 10.0**power <= high:
                yield tick * 10.0**power


def _text(x: float, y: float, text: str, style: str, *, anchor: str = "start") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}"{named}>{escape(text)}</text>'
