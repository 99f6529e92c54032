"""The picture as SVG, for a README: a row per chunk coloured by stage, requests in flight below on the same axis."""

import textwrap
from collections.abc import Iterator
from xml.sax.saxutils import escape

from harness.timeline.model import Timeline
from harness.timeline.pictures.colours import COLOURS
from harness.timeline.pictures.rows import Row, facts, rows, title
from harness.timeline.schedule import STAGES, analyse, in_flight
from harness.timeline.schedule.stages import spans

MOST_ROWS = 60
_WIDTH, _EDGE, _LINE = 900, 12, 16
_LETTER, _NARROW = 6.6, 6.0  # of a text in capitals and digits, and of words
_ROW, _BAR, _CHART = 14, 10, 50
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1b1f24}.soft{fill:#5b6472}.head{font-weight:600;font-size:14px}"
    ".line{stroke:#dcdfe4}.ground{fill:#fff}.area{fill:#c3cbd6}"
    "@media(prefers-color-scheme:dark){text{fill:#e7eaee}.soft{fill:#a0a9b5}.line{stroke:#343a42}.ground{fill:#15181c}"
    ".area{fill:#47515d}}"
)


def svg_picture(timeline: Timeline, *, span_ns: int | None = None) -> str:
    """Return the picture as one SVG document; above 60 chunks a row stands for several, its first one drawn.

    Parameters
    ----------
    timeline
        What to draw.
    span_ns
        Length of the axis, so that several pictures share theirs; by default the timeline's own.
    """
    return _Drawing(timeline, span_ns or timeline.end_ns - timeline.begin_ns).document()


class _Drawing:
    def __init__(self, timeline: Timeline, span_ns: int) -> None:
        self._timeline = timeline
        self._rows = rows(timeline, MOST_ROWS)
        self._analysis = analyse(timeline)
        self._left = _EDGE + max((len(row.label) for row in self._rows), default=0) * _LETTER + 8
        self._span = max(1, span_ns)
        self._said = [(line, "") for line in _wrapped(self._analysis.sentence)]
        self._said += [(line, "soft") for line in _wrapped(facts(timeline, self._analysis))]
        self._below_head = 24 + len(self._said) * _LINE
        self._top = self._below_head + 28
        self._chart = self._top + len(self._rows) * _ROW + 26
        self._height = self._chart + _CHART + 30

    def document(self) -> str:
        """Return the whole."""
        body = "\n".join([*self._head(), *self._legend(), *self._grid(), *self._bars(), *self._flight()])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {self._height}" role="img" '
            f'aria-label="{escape(title(self._timeline))}">\n<style>{_STYLE}</style>\n'
            f'<rect class="ground" width="{_WIDTH}" height="{self._height}"/>\n{body}\n</svg>\n'
        )

    def _x(self, ns: float) -> float:
        share = (ns - self._timeline.begin_ns) / self._span
        return self._left + share * (_WIDTH - _EDGE - self._left)

    def _head(self) -> Iterator[str]:
        yield _text(_EDGE, 22, title(self._timeline), "head")
        for number, (line, style) in enumerate(self._said):
            yield _text(_EDGE, 40 + number * _LINE, line, style)

    def _legend(self) -> Iterator[str]:
        at = float(_EDGE)
        drawn = {span.stage for row in self._rows for span in spans(row.chunks[0], self._timeline.begin_ns)}
        for stage, text in STAGES.items():
            if stage in drawn and stage != "send_wait":
                y = self._below_head + 10
                yield f'<rect x="{at:.1f}" y="{y}" width="10" height="10" rx="2" fill="{COLOURS[stage]}"/>'
                yield _text(at + 14, y + 9, text, "soft")
                at += 14 + len(text) * _NARROW + 14

    def _bars(self) -> Iterator[str]:
        for number, row in enumerate(self._rows):
            y = self._top + number * _ROW
            yield _text(_EDGE, y + _BAR, row.label, "soft")
            yield from self._bar(row, y)

    def _bar(self, row: Row, y: float) -> Iterator[str]:
        for span in spans(row.chunks[0], self._timeline.begin_ns):
            if span.stage != "send_wait" and span.ns:
                x, end = self._x(span.begin_ns), self._x(span.end_ns)
                yield (
                    f'<rect x="{x:.2f}" y="{y:.1f}" width="{max(0.3, end - x):.2f}" height="{_BAR}" '
                    f'fill="{COLOURS[span.stage]}"><title>{STAGES[span.stage]}: {span.ns / 1e6:.2f} ms</title></rect>'
                )

    def _grid(self) -> Iterator[str]:
        step = _step(self._span / 1e6)
        for number in range(int(self._span / 1e6 / step) + 1):
            x = self._x(self._timeline.begin_ns + number * step * 1e6)
            yield f'<path class="line" d="M{x:.1f} {self._top}V{self._chart + _CHART}"/>'
            yield _text(
                x + 2,
                self._chart + _CHART + 14,
                f"{number * step:g} ms" if number == 0 else f"{number * step:g}",
                "soft",
            )

    def _flight(self) -> Iterator[str]:
        steps = in_flight(self._timeline.requests)
        most = max((number for _, number in steps), default=0)
        yield _text(_EDGE, self._chart - 6, f"requests in flight, at most {most}{self._grouped()}", "soft")
        if not steps:
            return
        base = self._chart + _CHART
        path = [f"M{self._x(steps[0][0]):.1f} {base}"]
        for time_ns, number in steps:
            path.append(f"H{self._x(time_ns):.1f}V{base - number / most * _CHART:.1f}")
        yield f'<path class="area" d="{"".join(path)}V{base}Z"/>'

    def _grouped(self) -> str:
        return "; a row of several chunks shows its first" if len(self._rows) < len(self._timeline.chunks) else ""


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, int((_WIDTH - 2 * _EDGE) / _NARROW))


def _step(span_ms: float) -> float:
    """Return a round distance of grid lines that makes five to ten of them."""
    step = 1e-3
    for number in range(60):
        step = (1, 2, 5)[number % 3] * 10 ** (number // 3 - 3)
        if span_ms / step <= 10:
            break
    return step


def _text(x: float, y: float, text: str, style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escape(text)}</text>'
