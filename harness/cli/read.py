"""``zcb read``: one reader on one workload, measured like in asv."""

import statistics
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from harness import workload as workloads
from harness.errors import BadUseError, MeasurementError
from harness.measure.conductor import Conductor, Plan, Row
from harness.measure.report import read_report
from harness.objectstore import require
from harness.readers import NETWORK_LIMIT, reader_class
from harness.sample import FLAGS, Sample


@click.command(epilog="Example: zcb read zarr-python+obstore w.json --samples 7")
@click.argument("reader")
@click.argument("workload", type=click.Path(path_type=Path))
@click.option("--samples", type=click.IntRange(1, 10_000), default=5, show_default=True, help="Timed executions.")
@click.option("--json", "as_json", is_flag=True, help="Print the samples as JSON.")
def read(reader: str, workload: Path, samples: int, as_json: bool) -> None:
    """Let READER execute a workload file, between turns of the network limit, and show what it cost."""
    name = reader_class(reader).name
    loaded = workloads.load(workload)
    require(loaded.target, f"{loaded.array.key}/zarr.json")
    with Conductor([name], plan=Plan(samples=samples), say=lambda line: click.echo(line, err=True)) as conductor:
        rows = {row.reader: row for row in conductor.measure(loaded)}
    row, limit = rows[name], rows[NETWORK_LIMIT]
    if row.na is not None:
        raise BadUseError(f"{name} cannot do this workload: {row.na}")
    if row.error is not None:
        raise MeasurementError(f"{name}: {row.error}")
    if limit.error is not None:
        click.echo(f"zcb: the network limit could not be measured: {limit.error}", err=True)
    if as_json:
        click.echo(read_report(row, limit))
    else:
        _show(row)


def _show(row: Row) -> None:
    console = Console()
    work = row.workload
    table = Table(title=f"{row.reader}: {work.label} at {work.target.identity}", title_justify="left")
    for heading in ("ms", "x limit", "requests", "fetched KiB", "CPU ms", "peak MiB", "in flight", "flags"):
        table.add_column(heading, justify="left" if heading == "flags" else "right")
    for sample in row.samples:
        table.add_row(*_cells(sample))
    console.print(table)
    if row.samples:
        console.print(_rates(row))
    for flag in sorted({flag for sample in row.samples for flag in sample.flags}):
        console.print(f"{flag}: {FLAGS[flag]}")
    console.print(", ".join(f"{package} {version}" for package, version in row.versions.items()))


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


def _cells(sample: Sample) -> list[str]:
    return [
        f"{sample.seconds * 1e3:.1f}",
        _or_dash(sample.times_slower, ".2f"),
        _or_dash(sample.requests, "d"),
        _or_dash(sample.fetched_bytes and sample.fetched_bytes / 1024, ".1f"),
        f"{sample.cpu_seconds * 1e3:.1f}",
        _or_dash(sample.peak_rss_bytes and sample.peak_rss_bytes / 2**20, ".0f"),
        _or_dash(sample.max_in_flight, "d"),
        ", ".join(sample.flags),
    ]


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
