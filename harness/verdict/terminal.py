"""A verdict in the terminal."""

import itertools
import math
import os
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.verdict.model import Finding, Verdict
from harness.verdict.statistics import Answer
from harness.verdict.words import (
    answer_of,
    bounds,
    cautions,
    count_change,
    headline,
    milliseconds,
    settling,
    what_intervals_hold,
)

_STYLES = {Answer.FASTER: "green", Answer.SLOWER: "bold red", Answer.SAME: "", Answer.UNKNOWN: "dim"}
_WIDTH = 118
_ANY_WIDTH = 1000
_INDENT, _WORKLOAD, _ANSWER = "  ", 18, 18
"""How far workloads stand below their reader, and widths of lines in cells."""
_BAR_CELLS = 17  # odd: the middle is "as fast"
_BAR_FULL = math.log(3.0)
"""Ratio at which the bar reaches its end."""


def wide_console() -> Console:
    """Return a console that takes a log or a file for wide enough, unless COLUMNS says otherwise."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_WIDTH)


def show(verdict: Verdict, console: Console) -> None:
    """Print the verdict: its headline, a row per finding, what it rests on, and what would settle the rest."""
    if verdict.subject:
        console.print(Text(verdict.subject))
    console.print(Text(headline(verdict), style="bold"))
    console.print(
        f"base  {verdict.base.label}: {verdict.base.detail}\nhead  {verdict.head.label}: {verdict.head.detail}"
    )
    console.print(_fitting(verdict, console))
    for reason in (*verdict.reasons, *cautions(verdict)):
        console.print(Text(reason))
    console.print(
        " ".join(filter(None, ("Times are medians.", what_intervals_hold(verdict))))
        + f" Target {verdict.target}, {verdict.machine}, {verdict.seconds:.0f} s.",
        highlight=False,
    )
    command = settling(verdict)
    if command is not None:
        console.print(Text(f"To settle what is open: {command}"), soft_wrap=True)  # in one piece, to be copied


def _fitting(verdict: Verdict, console: Console) -> Table:
    """Return the table with pictures of the intervals where the console is wide enough: nothing of it is ever cut."""
    whole = _table(verdict, bars=True)
    needed = Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), whole).maximum
    return whole if needed <= console.width else _table(verdict, bars=False)


def _table(verdict: Verdict, *, bars: bool) -> Table:
    """Return a row for each finding, with what belongs together below each other."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if bars else 0))
    table.add_column("workload", no_wrap=True)
    table.add_column("base → head,\nms", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    if bars:
        table.add_column(f"{'faster':<{_BAR_CELLS // 2}}|{'slower':>{_BAR_CELLS // 2}}", no_wrap=True)
    table.add_column("requests", justify="right", no_wrap=True)
    table.add_column("blocks", justify="right", no_wrap=True)
    for reader, findings in itertools.groupby(verdict.findings, key=lambda finding: finding.reader):
        table.add_row(Text(_reader(reader), style="bold"))
        for finding in findings:
            table.add_row(*_cells(finding, verdict.smallest_effect, bars=bars))
    return table


def _reader(name: str) -> str:
    above, plus, last = name.rpartition("+")
    return name if len(name) <= _WORKLOAD + len(_INDENT) else f"{above}\n{plus}{last}"


def _cells(finding: Finding, smallest: float, *, bars: bool) -> list[Text | str]:
    workload = finding.workload.removeprefix("chunks_of_").split(" ")
    said = Text(_lines(answer_of(finding, smallest).split(" "), _ANSWER), style=_STYLES[finding.answer])
    return [
        _lines(workload, _WORKLOAD, _INDENT),
        _times(finding),
        Text("\n").join(filter(None, (said, Text(bounds(finding))))),
        *([bar(finding.ratio, finding.low, finding.high)] if bars else []),
        count_change(finding, "requests"),
        str(finding.looked_at),
    ]


def _lines(words: Sequence[str], width: int, indent: str = "") -> str:
    """Return words on lines of at most `width`, however long a single one is."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) < width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(indent + line for line in lines)


def _times(finding: Finding) -> str:
    if finding.base_seconds is None and finding.head_seconds is None:
        return "-"
    return f"{milliseconds(finding.base_seconds)} → {milliseconds(finding.head_seconds)}"


def bar(ratio: float | None, low: float | None, high: float | None) -> str:
    """Return the interval as a picture around the line of equal speed, faster to the left."""
    cells = [" "] * _BAR_CELLS
    middle = _BAR_CELLS // 2
    cells[middle] = "|"
    if ratio is None or low is None or high is None:
        return "".join(cells).rstrip()
    first, last = _cell(low), _cell(high)
    for position in range(first, last + 1):
        cells[position] = "+" if position == middle else "-"
    cells[_cell(ratio)] = "o"
    return "".join(cells).rstrip()


def _cell(ratio: float) -> int:
    middle = _BAR_CELLS // 2
    place = round(middle * math.log(ratio) / _BAR_FULL)
    return middle + max(-middle, min(middle, place))
