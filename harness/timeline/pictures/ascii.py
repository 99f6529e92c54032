"""The picture in a terminal: a line per chunk, the five events as digits."""

import textwrap

from harness.timeline.model import Timeline
from harness.timeline.pictures.rows import FIVE, FIVE_NAMES, Row, facts, rows, title
from harness.timeline.schedule import OPTIMUM_IS, analyse

MOST_ROWS = 40
_LEAST_COLUMNS = 20


def ascii_picture(timeline: Timeline, *, width: int = 80) -> str:
    """Return the picture, at most `width` columns wide; above 40 chunks a row shows the medians of several."""
    drawn, analysis = rows(timeline, MOST_ROWS), analyse(timeline)
    margin = max((len(row.label) for row in drawn), default=0)
    columns = max(_LEAST_COLUMNS, width - margin - 3)
    span = max(1, timeline.end_ns - timeline.begin_ns)
    lines = [f"{row.label:{margin}} | {_line(row, timeline.begin_ns, span, columns)}".rstrip() for row in drawn]
    legend = ", ".join(f"{number} {text}" for number, text in enumerate(FIVE_NAMES, 1))
    grouped = "rows of several chunks show their medians; " if len(timeline.chunks) > len(drawn) else ""
    below = [
        f"{legend}; {grouped}one column is {span / columns / 1e6:.2g} ms, nearer events stand side by side",
        analysis.sentence,
        OPTIMUM_IS,
        *timeline.notes,
    ]
    if not timeline.valid.ok:
        below.append(f"NOT VALID: {'; '.join(timeline.valid.failures)}")
    head = [line for text in (title(timeline), facts(timeline, analysis)) for line in textwrap.wrap(text, width)]
    foot = [line for text in below for line in textwrap.wrap(text, width)]
    return "\n".join([*head, "", *lines, _axis(span, margin, columns), "", *foot])


def _line(row: Row, begin_ns: int, span: int, columns: int) -> str:
    known = [(digit, row.event(event)) for digit, event in enumerate(FIVE, 1)]
    marks = [(str(digit), (time - begin_ns) / span * (columns - 1)) for digit, time in known if time is not None]
    if not marks:
        return ""
    places = _apart([place for _, place in marks], columns)
    line = [" "] * columns
    line[places[0] : places[-1]] = "-" * (places[-1] - places[0])
    for (digit, _), place in zip(marks, places, strict=True):
        line[place] = digit
    return "".join(line)


def _apart(exact: list[float], columns: int) -> list[int]:
    """Round places so that none hides another: each at least one column after the one before, none beyond the edge."""
    places = [round(min(max(place, 0), columns - 1)) for place in exact]
    for number in range(1, len(places)):
        places[number] = max(places[number], places[number - 1] + 1)
    edge = columns
    for number in reversed(range(len(places))):
        edge = places[number] = min(places[number], edge - 1)
    return places


def _axis(span: int, margin: int, columns: int) -> str:
    end = f"{span / 1e6:.1f} ms"
    middle = f"{span / 2e6:.1f}"
    left = "0"
    gap = columns // 2 - len(left) - len(middle) // 2
    line = left + " " * gap + middle
    return " " * (margin + 3) + line + end.rjust(columns - len(line))
