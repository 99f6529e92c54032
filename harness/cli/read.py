"""``zcb read``: one reader on one workload, measured like in asv."""

import statistics
import string
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from harness.asv.tracked import READERS
from harness.cli.values import FiniteRange, OutputFile
from harness.errors import BadUseError, MeasurementError, UnsupportedError
from harness.measure.conductor import Conductor, Plan, Row
from harness.measure.report import read_report, read_reports
from harness.measure.timelines import record_with_wire
from harness.readers import LIMIT_CLIENTS, reader_class
from harness.results.sample import FLAGS, NETWORK_LIMIT, Sample
from harness.results.tables import number
from harness.targets.client import require
from harness.timeline.model import check_replaceable, save
from harness.timeline.overhead import DEFAULT_PAIRS
from harness.workload import model as workloads
from harness.workload.model import Workload

_SAMPLES = 5
_FIGURES: dict[str, Callable[[Sample], float | None]] = {
    "ms": lambda s: s.seconds * 1e3,
    "x\nlimit": lambda s: s.times_slower,
    "re-\nquests": lambda s: s.requests,
    "re-\ntries": lambda s: s.retries,
    "fetched\nMiB": lambda s: _scaled(s.fetched_bytes, 2**20),
    "CPU\nms": lambda s: s.cpu_seconds * 1e3,
    "peak\nMiB": lambda s: _scaled(s.peak_rss_bytes, 2**20),
    "in\nflight": lambda s: s.max_in_flight,
}
"""What the columns show of a sample. 80 columns hold them all."""

_READER_WIDTH = 20  # "zarr-python+obstore+", "fused" below


@click.command(epilog="Example: zcb read zarr-python+obstore w.json --samples 7")
@click.argument("readers", metavar="READER")
@click.argument("workload", type=click.Path(path_type=Path))
@click.option("--samples", type=click.IntRange(1, 10_000), help="Timed executions.  [default: 5; none with --timeline]")
@click.option(
    "--deadline",
    type=FiniteRange(min=0, min_open=True),
    metavar="SECONDS",
    help="When an execution counts as hanging.  [default: 60 s and 120 s per GiB]",
)
@click.option("--timeline", type=OutputFile(), help="Record one execution into this file.")
@click.option(
    "--pairs",
    type=click.IntRange(0, 1000),
    default=DEFAULT_PAIRS,
    show_default=True,
    help="Recorded and plain executions that show what recording costs.",
)
@click.option(
    "--wire/--no-wire", default=True, help="With --timeline: capture packets too, where that is possible (default)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the samples as JSON.")
def read(
    readers: str,
    workload: Path,
    samples: int | None,
    deadline: float | None,
    timeline: Path | None,
    pairs: int,
    wire: bool,
    as_json: bool,
) -> None:
    """Let READER execute a workload file, between turns of the network limit, and show what it cost.

    Several readers, `a,b` or `all`, take turns and stand side by side.
    """
    names = _names(readers)
    if timeline is not None and len(names) > 1:
        raise BadUseError("a timeline is of one reader: name only one with --timeline")
    loaded = workloads.load(workload)
    if timeline is not None:
        check_replaceable(timeline)
    require(loaded.target, f"{loaded.array.key}/zarr.json")
    if samples is not None or timeline is None:
        plan = Plan(samples=samples or _SAMPLES, deadline_seconds=deadline, with_faults=True)
        _measure(names, loaded, plan, as_json)
    if timeline is not None:
        _record(names[0], loaded, timeline, pairs, wire)


def _record(name: str, loaded: Workload, file: Path, pairs: int, wire: bool) -> None:
    """Record a timeline into `file`; one that is not valid is kept for looking at, marked as such, and is a failure."""
    try:
        recorded = record_with_wire(name, loaded, pairs=pairs, wire=wire)
    except UnsupportedError as reason:
        raise BadUseError(f"{name} cannot be recorded: {reason}") from reason
    save(file, recorded)
    if not recorded.valid.ok:
        raise MeasurementError(f"{name}: the recording in {file} is not valid: {'; '.join(recorded.valid.failures)}")
    cost = recorded.overhead
    costs = "" if cost is None else f"; recording took {cost.ratio:.3f} x the time of {cost.pairs} plain executions"
    seconds = (recorded.end_ns - recorded.begin_ns) / 1e9
    _say(f"{file}: {len(recorded.chunks)} chunks, {len(recorded.requests)} requests in {seconds * 1e3:.1f} ms{costs}")


def _say(line: str) -> None:
    click.echo(line, err=True)


def _names(readers: str) -> list[str]:
    """Return the readers asked for, each once."""
    asked = READERS if readers == "all" else readers.split(",")
    names = list(dict.fromkeys(reader_class(name.strip()).name for name in asked))
    if any(name in LIMIT_CLIENTS and name != NETWORK_LIMIT for name in names):
        raise BadUseError(f"the limit's clients compete for `{NETWORK_LIMIT}`: ask for that")
    return names


def _measure(names: list[str], loaded: Workload, plan: Plan, as_json: bool) -> None:
    with Conductor(names, plan=plan) as conductor:
        by_name = {row.reader: row for row in conductor.measure(loaded)}
    rows, limit = [by_name[name] for name in names], by_name[NETWORK_LIMIT]
    if all(row.na is not None for row in rows):
        raise BadUseError("; ".join(f"{row.reader} cannot do this workload: {row.na}" for row in rows))
    failed = [f"{row.reader}: {row.error}" for row in rows if row.error is not None]
    if failed and len(failed) == len(rows):
        raise MeasurementError("; ".join(failed))
    if limit.error is not None:
        _say(f"zcb: the network limit could not be measured: {limit.error}")
    if as_json:
        click.echo(read_report(rows[0], limit) if len(rows) == 1 else read_reports(rows, limit))
    elif len(rows) == 1:
        _show(rows[0])
    else:
        _compare([*rows, limit])
    if failed:
        raise MeasurementError("; ".join(failed))


def _compare(rows: list[Row]) -> None:
    """Print the readers side by side: the median of each column."""
    console = Console()
    work = rows[0].workload
    title = f"{work.label} at {work.target.identity}, {work.in_flight} in flight: medians"
    table, marks = _columns(title, "reader"), _marks(rows)
    for row in rows:
        table.add_row(row.reader, *(_medians(row.samples, marks) or ["failed" if row.error else "n/a"]))
    console.print(table)
    for row in rows:
        if row.na is not None:
            console.print(f"{row.reader}: {row.na}")
    _explain(console, marks)
    versions = {package: version for row in rows for package, version in row.versions.items()}
    console.print(", ".join(f"{package} {version}" for package, version in versions.items()))


def _medians(samples: list[Sample], marks: Mapping[str, str]) -> list[str]:
    """Return a table row: the median of each figure, and every flag that any of the samples has."""
    if not samples:
        return []
    known = [[value for value in column if value is not None] for column in zip(*map(_figures, samples), strict=True)]
    flags = {flag for sample in samples for flag in sample.flags}
    medians = [statistics.median(values) if values else None for values in known]
    return [*_shown(medians), _marked(flags, marks)]


def _show(row: Row) -> None:
    console = Console()
    work = row.workload
    table, marks = _columns(f"{row.reader}: {work.label} at {work.target.identity}"), _marks([row])
    for sample in row.samples:
        table.add_row(*_shown(_figures(sample)), _marked(sample.flags, marks))
    console.print(table)
    if row.samples:
        console.print(_rates(row))
    _explain(console, marks)
    console.print(", ".join(f"{package} {version}" for package, version in row.versions.items()))


def _marks(rows: list[Row]) -> dict[str, str]:
    """Return a letter for every flag that any sample has: what the table shows instead."""
    flags = sorted({flag for row in rows for sample in row.samples for flag in sample.flags})
    return dict(zip(flags, string.ascii_lowercase, strict=False))


def _marked(flags: Iterable[str], marks: Mapping[str, str]) -> str:
    return " ".join(sorted(marks[flag] for flag in flags))


def _explain(console: Console, marks: Mapping[str, str]) -> None:
    for flag, mark in marks.items():
        console.print(f"{mark}  {flag}: {FLAGS[flag]}")


def _rates(row: Row) -> str:
    """Return how much the median sample got in a second, of the final arrays."""
    seconds = statistics.median(sample.seconds for sample in row.samples)
    work = row.workload
    rate = f"{work.array_bytes * 8 / seconds / 1e9:.3f} Gbit/s of the final arrays{_on_the_wire(row)}"
    if len(work.reads) == 1:
        return rate
    name = "crops" if work.pattern == "random_crops" else "reads"
    return f"{len(work.reads) / seconds:.1f} {name} per second, {work.concurrent_reads} at once; {rate}"


def _on_the_wire(row: Row) -> str:
    """Return what crossed the network in the same time, where its interface counts, and how much of it was headers."""
    counted = [(s.nic_rx_bytes, s.fetched_bytes, s.seconds) for s in row.samples]
    raw = [wire * 8 / seconds / 1e9 for wire, _, seconds in counted if wire]
    headers = [(wire - bodies) / wire for wire, bodies, _ in counted if wire and bodies is not None]
    if not raw or not headers:
        return ""
    return f", {statistics.median(raw):.3f} Gbit/s raw, {statistics.median(headers):.1%} of it headers"


def _columns(title: str, *first: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for heading in first:
        table.add_column(heading, max_width=_READER_WIDTH, overflow="fold")
    for heading in _FIGURES:
        table.add_column(heading, justify="right")
    table.add_column("flags")
    return table


def _figures(sample: Sample) -> list[float | None]:
    return [figure(sample) for figure in _FIGURES.values()]


def _shown(figures: list[float | None]) -> list[str]:
    return ["-" if value is None else number(value) for value in figures]


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit
