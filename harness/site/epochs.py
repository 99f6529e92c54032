"""The loop of an epoch as SVG: the wait before each batch, and the requests in flight below it, on one axis of time."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from harness.results.text import number
from harness.site.curves import linear_ticks, svg_text

_WIDTH, _LEFT, _RIGHT = 500, 46, 18
_WAITS_TOP, _HIGH, _STRIP = 38, 56, 7
_FLIGHT_TOP = _WAITS_TOP + _HIGH + _STRIP + 26
_FOOT = 30
_ROOM = _WIDTH - _LEFT - _RIGHT
_LEAST = 1.5
"""Width of the shortest wait."""


def of_epoch(
    arm: str, waits: Sequence[float], steps: Sequence[float], in_flight: Sequence[float] | None, *, name: str
) -> str:
    """Return the loop of an arm's epoch as an SVG document for a page that has the style of its classes.

    A wait is as wide as it is long, and as high; the strip below shows the steps. Each arm has axes of its own.

    Parameters
    ----------
    waits, steps
        In seconds, in turns, the first wait at the beginning.
    in_flight
        Mean number of requests in equal parts of the loop's time; None draws the waits alone.
    name
        Begins the picture's ids: another one for each picture of a page.
    """
    seconds = sum(waits) + sum(steps)
    bottom = _WAITS_TOP + _HIGH + _STRIP if in_flight is None else _FLIGHT_TOP + _HIGH
    said = f"{arm}: {len(waits)} batches in {number(seconds * 1e3)} ms, of which {number(sum(waits) * 1e3)} ms waiting"
    parts = [
        svg_text(_LEFT, 14, arm, "head"),
        *_time(seconds, bottom),
        *_waits(waits, steps, seconds),
        *(() if in_flight is None else _in_flight(in_flight)),
    ]
    return (
        f'<svg class="epoch" width="{_WIDTH}" viewBox="0 0 {_WIDTH} {bottom + _FOOT}" role="img" '
        f'aria-labelledby="{name}-title">\n<title id="{name}-title">{escape(said)}</title>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _time(seconds: float, bottom: float) -> Iterator[str]:
    for tick in linear_ticks(seconds * 1e3):
        if tick <= seconds * 1e3:
            x = _LEFT + _ROOM * tick / (seconds * 1e3)
            yield f'<path class="grid" d="M{x:.1f} {_WAITS_TOP}V{bottom}"/>'
            yield svg_text(x, bottom + 14, f"{tick:g}", "soft", anchor="middle")
    yield svg_text(_LEFT + _ROOM, bottom + 27, "ms since the loop began", "soft", anchor="end")


def _waits(waits: Sequence[float], steps: Sequence[float], seconds: float) -> Iterator[str]:
    ticks = linear_ticks((max(waits) or 1e-6) * 1e3)
    yield from _scale("wait, ms", ticks, _WAITS_TOP)
    x, strip = float(_LEFT), _WAITS_TOP + _HIGH
    for batch, (wait, step) in enumerate(zip(waits, steps, strict=True), 1):
        wide, high = _ROOM * wait / seconds, _HIGH * wait * 1e3 / ticks[-1]
        yield (
            f'<rect class="wait" x="{x:.1f}" y="{strip - high:.1f}" width="{max(_LEAST, wide):.1f}" '
            f'height="{high:.1f}"><title>{number(wait * 1e3)} ms before batch {batch} of the loop</title></rect>'
        )
        x += wide
        busy = _ROOM * step / seconds
        yield f'<rect class="step" x="{x:.1f}" y="{strip}" width="{busy:.1f}" height="{_STRIP}"/>'
        x += busy


def _in_flight(values: Sequence[float]) -> Iterator[str]:
    ticks = linear_ticks(max(values) or 1.0)
    yield from _scale("requests in flight", ticks, _FLIGHT_TOP)
    wide, bottom = _ROOM / len(values), _FLIGHT_TOP + _HIGH
    line = "".join(f"V{bottom - _HIGH * value / ticks[-1]:.1f}h{wide:.3f}" for value in values)
    yield f'<path class="flight" d="M{_LEFT} {bottom}{line}V{bottom}Z"/>'


def _scale(what: str, ticks: Sequence[float], top: float) -> Iterator[str]:
    """Draw the lowest and the highest tick, and what the axis is above it."""
    yield svg_text(_LEFT, top - 6, what, "soft")
    for tick in (ticks[0], ticks[-1]):
        y = top + _HIGH * (1 - tick / ticks[-1])
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}h{_ROOM}"/>'
        yield svg_text(_LEFT - 5, y + 4, f"{tick:g}", "soft", anchor="end")
