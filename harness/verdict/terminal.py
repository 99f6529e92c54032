"""A verdict in the terminal."""

import itertools
import math
import os

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.verdict.model import Finding, Verdict
from harness.verdict.statistics import Answer
from harness.verdict.words import answer_of, bounds, count_change, headline

_STYLES = {Answer.FASTER: "green", Answer.SLOWER: "bold red", Answer.SAME: "", Answer.UNKNOWN: "dim"}
_WIDTH = 118
_BAR_CELLS = 17  # odd: the middle is "as fast"
_BAR_FULL = math.log(3.0)
"""Ratio at which the bar reaches its end."""


def wide_console() -> Console:
    """Return a console that takes a log or a file for wide enough, unless COLUMNS says otherwise."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_WIDTH)


def show(verdict: Verdict, console: Console) -> None:
    """Print the verdict: its headline, a row per finding, and what it rests on."""
    console.print(Text(headline(verdict), style="bold"))
    console.print(
        f"base  {verdict.base.label}: {verdict.base.detail}\nhead  {verdict.head.label}: {verdict.head.detail}"
    )
    console.print(_table(verdict))
    for finding in verdict.findings:
        reason = finding.na or finding.error or finding.why
        if reason:
            console.print(f"{finding.name}: {reason}", highlight=False)
    console.print(
        f"Seconds are medians. Intervals hold together in all but {verdict.error_rate:.0%} of verdicts. "
        f"Target {verdict.target}, {verdict.machine}, {verdict.seconds:.0f} s.",
        highlight=False,
    )


def _table(verdict: Verdict) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("workload", no_wrap=True)
    table.add_column("base → head, ms", justify="right", no_wrap=True)
    table.add_column("verdict")
    table.add_column("interval", no_wrap=True)
    table.add_column(f"{'faster':<{_BAR_CELLS // 2}}|{'slower':>{_BAR_CELLS // 2}}", no_wrap=True)
    table.add_column("requests", justify="right", no_wrap=True)
    table.add_column("blocks", justify="right", no_wrap=True)
    for reader, findings in itertools.groupby(verdict.findings, key=lambda finding: finding.reader):
        table.add_row(Text(reader, style="bold"))
        for finding in findings:
            table.add_row(*_cells(finding, verdict.smallest_effect))
    return table


def _cells(finding: Finding, smallest: float) -> list[Text | str]:
    return [
        f"  {finding.workload.removeprefix('chunks_of_')}",
        _milliseconds(finding),
        Text(answer_of(finding, smallest), style=_STYLES[finding.answer]),
        bounds(finding),
        bar(finding.ratio, finding.low, finding.high),
        count_change(finding, "requests"),
        str(len(finding.blocks())),
    ]


def _milliseconds(finding: Finding) -> str:
    if finding.base_seconds is None or finding.head_seconds is None:
        return "-"
    return f"{finding.base_seconds * 1e3:.4g} → {finding.head_seconds * 1e3:.4g}"


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
