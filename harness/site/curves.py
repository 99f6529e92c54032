"""Curves as SVG: a small plot for each reader or place, all on the same axes, so that they can be compared."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape

from harness.results.gaps import GapCell, GapSweep
from harness.results.intervals import Interval, without_interval
from harness.results.knee import Knee
from harness.results.sample import NETWORK_LIMIT
from harness.results.sweeps import InFlightSweep, SweptReader, limit
from harness.results.text import number

Kind = Literal["own", "limit"]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Medians over one axis, in ascending order of `x`."""

    kind: Kind
    points: Sequence[tuple[float, Interval]]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A place on the axis of `x` with the interval around it."""

    x: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One small plot."""

    heading: str
    note: str
    """Below the heading; says in words what the plot shows."""
    curves: Sequence[Curve]
    mark: Mark | None = None


_EDGE, _LEFT, _HEAD, _HIGH, _FOOT, _BETWEEN = 12, 50, 40, 110, 42, 16
_COLUMN = 260
"""Width that a plot has at least, where the picture has room for more than one."""
_STEPS = (1, 2, 2.5, 5, 10)
_FAR = 50
"""Ends of a logarithmic axis are far apart from this ratio on."""
_STYLE = (
    ".zcb-curves text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1b1f24}"
    ".zcb-curves .soft{fill:#5b6472}.zcb-curves .head{font-weight:600}.zcb-curves .ground{fill:#fff}"
    ".zcb-curves .line{stroke:#e2e5ea}.zcb-curves path{fill:none}"
    ".zcb-curves .own{stroke:#0a58b8;stroke-width:2}.zcb-curves .limit{stroke:#8a93a0;stroke-dasharray:4 3}"
    ".zcb-curves .whisker{stroke:#0a58b8;stroke-opacity:.5}.zcb-curves circle{fill:#0a58b8}"
    ".zcb-curves .mark{stroke:#b4530a;stroke-width:2}.zcb-curves .span{fill:#b4530a;fill-opacity:.14}"
    "@media(prefers-color-scheme:dark){.zcb-curves text{fill:#e7eaee}.zcb-curves .soft{fill:#a0a9b5}"
    ".zcb-curves .ground{fill:#15181c}.zcb-curves .line{stroke:#2b3138}"
    ".zcb-curves .own,.zcb-curves .whisker{stroke:#4a94f0}.zcb-curves circle{fill:#4a94f0}"
    ".zcb-curves .mark{stroke:#e08b3f}.zcb-curves .span{fill:#e08b3f;fill-opacity:.2}}"
)


def of_sweep(sweep: InFlightSweep, *, name: str = "sweep", width: int = 860) -> str:
    """Return throughput over requests in flight as an SVG document, a plot per reader, with the knee of each.

    Parameters
    ----------
    name
        Begins the picture's ids: another one for each picture of a page.
    width
        In the picture's units, in which letters are 12 high.
    """
    of_limit = limit(sweep)
    plots = [_plot(sweep, reader, of_limit) for reader in sweep.readers]
    title = f"Throughput over requests in flight: {sweep.label} at {sweep.target}"
    return svg(plots, title=title, name=name, width=width, x="requests in flight", y="Gbit/s")


def _plot(sweep: InFlightSweep, reader: SweptReader, of_limit: SweptReader | None) -> Plot:
    found = reader.knee()
    curves = [Curve(kind="own", points=_points(sweep, reader))]
    if of_limit is not None and reader.reader != NETWORK_LIMIT:
        curves.insert(0, Curve(kind="limit", points=_points(sweep, of_limit)))
    mark = None if found is None or found.is_last else Mark(x=found.value, low=found.low, high=found.high)
    return Plot(heading=reader.reader, note=knee_in_words(found), curves=curves, mark=mark)


def _points(sweep: InFlightSweep, reader: SweptReader) -> list[tuple[float, Interval]]:
    known = ((value.in_flight, sweep.figure(value, "array_gbit_s")) for value in reader.values)
    return [(asked, found) for asked, found in known if found is not None]


def knee_in_words(found: Knee | None) -> str:
    """Return a knee with its interval, e.g. ``knee at 20 [10, 50]``; the largest value that was measured is none."""
    if found is None:
        return "nothing measured"
    if found.is_last:
        return f"no knee up to {found.value}: still rising"
    within = f" [{found.low}, {found.high}]" if found.sure else f" (n={found.count})"
    return f"knee at {found.value}{within}"


def of_gaps(sweep: GapSweep) -> str:
    """Return a merged range's time over that of separate ranges as an SVG document: a plot per service time."""
    title = f"One merged range over separate ranges, by gap: {sweep.label}"
    plots = [_gap_plot(cell) for cell in sweep.cells]
    return svg(plots, title=title, name="gaps", width=860, x="KiB of gap", y="merged/separate")


def _gap_plot(cell: GapCell) -> Plot:
    ratios = ((pair.gap_bytes / 2**10, pair.ratio()) for pair in cell.pairs if pair.gap_bytes)
    points = [(gap, found) for gap, found in ratios if found is not None]
    rule = cell.rule_bytes / 2**10
    inside = bool(points) and points[0][0] <= rule <= points[-1][0]
    equal = [(gap, without_interval(1.0, 0)) for gap, _ in points]
    return Plot(
        heading=cell.reader,
        note=f"{cell.first_byte_ms:g} ms, {cell.connection_mb_s:g} MB/s: rule {number(rule)} KiB",
        curves=[Curve(kind="limit", points=equal), Curve(kind="own", points=points)],
        mark=Mark(x=rule) if inside else None,
    )


def svg(plots: Sequence[Plot], *, title: str, name: str, width: int, x: str, y: str) -> str:
    """Return plots as one SVG document, which can also stand in a page.

    Parameters
    ----------
    plots
        Row by row, at least one; all have the same axes.
    title
        What the picture is, for whoever does not see it.
    x, y
        What the axes are: `x` is logarithmic, `y` begins at 0.
    """
    return _Drawing(plots, title, name, width, x, y).document()


class _Drawing:
    def __init__(self, plots: Sequence[Plot], title: str, name: str, width: int, x: str, y: str) -> None:
        self._plots, self._title, self._name, self._width = plots, title, name, width
        self._x_is, self._y_is = x, y
        known = [point for plot in plots for curve in plot.curves for point in curve.points]
        places = [at for at, _ in known] or [1.0]
        self._low, self._high = min(places), max(max(places), 2 * min(places))
        self._ticks = linear_ticks(max((_top(found) for _, found in known), default=1.0) or 1.0)
        self._columns = min(len(plots), max(1, (width - 2 * _EDGE + _BETWEEN) // (_COLUMN + _BETWEEN)))
        self._room = (width - 2 * _EDGE - (self._columns - 1) * _BETWEEN) / self._columns - _LEFT
        self._row = _HEAD + _HIGH + _FOOT
        self._height = 2 * _EDGE + math.ceil(len(plots) / self._columns) * self._row

    def document(self) -> str:
        ids = f"{self._name}-title {self._name}-desc"
        described = " ".join(f"{plot.heading}: {plot.note}." for plot in self._plots)
        body = "\n".join(part for place, plot in enumerate(self._plots) for part in self._plot(place, plot))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="zcb-curves" width="{self._width}" '
            f'viewBox="0 0 {self._width} {self._height}" role="img" aria-labelledby="{ids}">\n'
            f'<title id="{self._name}-title">{escape(self._title)}</title>\n'
            f'<desc id="{self._name}-desc">{escape(described)}</desc>\n<style>{_STYLE}</style>\n'
            f'<rect class="ground" width="{self._width}" height="{self._height}"/>\n{body}\n</svg>\n'
        )

    def _plot(self, place: int, plot: Plot) -> Iterator[str]:
        row, column = divmod(place, self._columns)
        left = _EDGE + column * (self._room + _LEFT + _BETWEEN) + _LEFT
        top = _EDGE + row * self._row + _HEAD
        yield svg_text(left, top - 24, plot.heading, "head")
        yield svg_text(left, top - 9, plot.note, "soft")
        yield from self._axes(left, top)
        if plot.mark is not None:
            yield from self._mark(plot.mark, left, top)
        for curve in plot.curves:
            yield from self._curve(curve, left, top)

    def _axes(self, left: float, top: float) -> Iterator[str]:
        for tick in self._ticks:
            y = self._y(tick, top)
            yield f'<path class="line" d="M{left:.1f} {y:.1f}h{self._room:.1f}"/>'
            yield svg_text(left - 5, y + 4, f"{tick:g}", "soft", anchor="end")
        bottom = top + _HIGH
        for tick in _logarithmic(self._low, self._high):
            x = self._x(tick, left)
            yield f'<path class="line" d="M{x:.1f} {top:.1f}v{_HIGH}"/>'
            yield svg_text(x, bottom + 14, f"{tick:g}", "soft", anchor="middle")
        yield svg_text(left + self._room, bottom + 28, self._x_is, "soft", anchor="end")
        upwards = f"translate({left - _LEFT + 9:.1f} {top + _HIGH / 2:.1f}) rotate(-90)"
        yield f'<text transform="{upwards}" text-anchor="middle" class="soft">{escape(self._y_is)}</text>'

    def _mark(self, mark: Mark, left: float, top: float) -> Iterator[str]:
        x = self._x(mark.x, left)
        if mark.low is not None and mark.high is not None:
            begin, end = self._x(mark.low, left), self._x(mark.high, left)
            wide = max(2.0, end - begin)
            yield f'<rect class="span" x="{begin:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{_HIGH}"/>'
        yield f'<path class="mark" d="M{x:.1f} {top:.1f}v{_HIGH}"/>'

    def _curve(self, curve: Curve, left: float, top: float) -> Iterator[str]:
        at = [(self._x(x, left), found) for x, found in curve.points]
        line = " ".join(f"{x:.1f},{self._y(found.median, top):.1f}" for x, found in at)
        if line:
            yield f'<path class="{curve.kind}" d="M{line}"/>'
        if curve.kind != "own":
            return
        for (asked, _), (x, found) in zip(curve.points, at, strict=True):
            if found.sure:
                low, high = self._y(found.low, top), self._y(found.high, top)
                yield f'<path class="whisker" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
            said = f"{asked:g}: {number(found.median)} {self._y_is}"
            y = self._y(found.median, top)
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(said)}</title></circle>'

    def _x(self, value: float, left: float) -> float:
        return left + self._room * math.log(value / self._low) / math.log(self._high / self._low)

    def _y(self, value: float, top: float) -> float:
        return top + _HIGH * (1 - value / self._ticks[-1])


def _top(found: Interval) -> float:
    return found.high if found.sure else found.median


def linear_ticks(highest: float) -> list[float]:
    """Return three to six round numbers from 0 to the first above the highest."""
    rough = highest / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in _STEPS if step * power >= rough * 0.999)
    return [step * place for place in range(math.ceil(highest / step * 0.999) + 1)]


def _logarithmic(low: float, high: float) -> Iterable[float]:
    """Return the powers of ten within the ends; where these are close, 1, 2, 5 and so on."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < _FAR else (1,)
    within = (step * 10.0**power for power in powers for step in steps)
    return [tick for tick in within if low * 0.999 <= tick <= high * 1.001]


def svg_text(x: float, y: float, text: str, style: str, *, anchor: str = "start") -> str:
    """Return a line of text that begins, ends or has its middle at `x`."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(text)}</text>'
