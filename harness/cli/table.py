"""``zcb table``: readers and releases side by side, from the newest results."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from harness import results
from harness.errors import BadUseError
from harness.paths import ROOT
from harness.results import Record

_LIMIT = "times_slower"
_WIDTH = 112
_UNITS: dict[str, tuple[float, str]] = {"seconds": (1e3, "ms"), "bytes": (2**-20, "MiB")}
"""How a unit is shown: factor and name."""


@click.command(epilog="Example: zcb table --metric requests")
@click.option("--metric", default="seconds", show_default=True, help="seconds, requests, times_slower, ...")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=ROOT / "asv.releases.conf.json",
    help="asv configuration whose results are shown (default: the releases).",
)
def table(metric: str, config: Path) -> None:
    """Show readers x workloads x releases: the value, its ratio to the first release, and the network limit."""
    records = results.load(config)
    known = sorted({record.metric for record in records})
    if metric not in known:
        raise BadUseError(f"unknown metric {metric!r}: the results hold {', '.join(known)}")
    chosen = [record for record in records if record.metric == metric]
    limits = {_place(r): r.value for r in records if r.metric == _LIMIT and metric == "seconds"}
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_WIDTH)  # a log or a file can be wider than the 80 columns assumed for it
    console.print(_table(chosen, limits))


def _place(record: Record) -> tuple[str, str, str]:
    return record.workload, record.reader, record.variant


def _table(records: Sequence[Record], limits: dict[tuple[str, str, str], float]) -> Table:
    variants = list(dict.fromkeys(record.variant for record in records))
    cells = {_place(record): record for record in records}
    factor, unit = _UNITS.get(records[0].unit, (1.0, records[0].unit))
    shown = Table(
        title=f"{records[0].metric.replace('_', ' ')} in {unit}",
        title_justify="left",
        caption=_caption(variants[0], bool(limits)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    shown.add_column("workload", no_wrap=True)
    shown.add_column("reader", no_wrap=True)
    for variant in variants:
        shown.add_column(variant, justify="right")
    by_workload: dict[str, dict[str, None]] = {}
    for record in records:
        if not math.isnan(record.value):  # a row of nothing but n/a says nothing
            by_workload.setdefault(record.workload, {})[record.reader] = None
    for workload, readers in by_workload.items():
        for number, reader in enumerate(sorted(readers)):
            row = [cells.get((workload, reader, variant)) for variant in variants]
            base = cells.get((workload, reader, variants[0]))
            label = "" if number else workload.removeprefix("ChunksOf")
            shown.add_row(label, reader, *(_cell(record, base, limits, factor) for record in row))
        shown.add_section()
    return shown


def _cell(record: Record | None, base: Record | None, limits: dict[tuple[str, str, str], float], factor: float) -> str:
    if record is None:
        return "-"
    if math.isnan(record.value):
        return "n/a"
    parts = [_number(record.value * factor)]
    if base is not None and base is not record and base.value:
        parts.append(f"[bold]{record.value / base.value:.2f}[/bold]")
    if _place(record) in limits:
        parts.append(f"[dim]{limits[_place(record)]:.2f}x[/dim]")
    return "  ".join(parts)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _caption(base: str, with_limits: bool) -> str:
    lines = [f"Medians. Second figure: ratio to {base}, below 1 is better."]
    if with_limits:
        lines.append("Last figure: times slower than the network limit measured around each sample.")
    return "\n".join(lines)
