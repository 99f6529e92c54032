"""``zcb sweep``: one setting over several values, for readers that take turns with it."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from asv.machine import Machine
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli.output import pretty
from harness.cli.rounds import median, opened, rounds_of, rounds_options, spread
from harness.cli.values import (
    ENV,
    OutputFile,
    default_config,
    timeout_option,
    write_output,
)
from harness.errors import BadUseError, MeasurementError, blamed, wrong_data_first
from harness.machine.environment import admit
from harness.machine.interrupts import shown_when_interrupted
from harness.measure import gaps as gap_sweeps
from harness.measure import sweep as sweeping
from harness.readers import benchmarked, named
from harness.results import gaps as gap_results
from harness.results import sweeps
from harness.results.gaps import GapCell, GapSweep
from harness.results.intervals import Interval
from harness.results.knee import NEARLY, Knee
from harness.results.records import configuration
from harness.results.sample import NETWORK_LIMIT
from harness.results.sweeps import InFlightSweep, SweptReader, SweptValue
from harness.results.text import BAR, bar, cores_in_words, number, times
from harness.site import curves
from harness.workload.model import MOST_IN_FLIGHT

_MOST_VALUES = 40

_UNPUBLISHED = (
    "; `asv publish` makes a page of it once benchmarks have been run there (`make bench`): until then, -o draws it"
)


class Values(click.ParamType["tuple[int, ...]"]):
    """Whole numbers within bounds, separated by commas."""

    name = "N,N,..."

    def __init__(self, least: int, most: int) -> None:
        self._range: click.ParamType[Any] = click.IntRange(least, most)

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers in ascending order, each once."""
        if isinstance(value, tuple):
            return value
        numbers = tuple(sorted({self._range.convert(part, param, ctx) for part in value.split(",")}))
        if len(numbers) > _MOST_VALUES:
            self.fail(f"{len(numbers)} values are more than {_MOST_VALUES}", param, ctx)
        return numbers


def _listed(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


@click.group()
def sweep() -> None:
    """Measure readers with several values of one setting, in shuffled rounds."""


@sweep.command("in-flight", epilog="Example: zcb sweep in-flight w.json --readers zarrs,tensorstore -o x.svg")
@click.argument("workload", type=click.Path(path_type=Path))
@click.option("--readers", metavar="R,R,...", help="Readers that are measured (default: all, and the network limit).")
@click.option(
    "--values",
    type=Values(1, MOST_IN_FLIGHT),
    default=sweeping.VALUES,
    help=f"Requests in flight that are asked for.  [default: {_listed(sweeping.VALUES)}]",
)
@rounds_options
@timeout_option
@ENV
@click.option("--json", "as_json", is_flag=True, help="Print all samples, figures and knees as JSON.")
@click.option("-o", "--output", type=OutputFile(), help="Draw it into this SVG file too.")
@click.option(
    "--keep",
    is_flag=True,
    help="Keep it beside asv's results: `asv publish` makes a page of it, once a `make bench` was done.",
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="With --keep: asv configuration (default: the releases)."
)
def in_flight(
    workload: Path,
    readers: str | None,
    values: tuple[int, ...],
    samples: int,
    sessions: int,
    patience: float,
    timeout: float,
    env: tuple[str, ...],
    as_json: bool,
    output: Path | None,
    keep: bool,
    config: Path | None,
) -> None:
    """Let readers execute a workload file with several numbers of requests in flight.

    The last lines name the knee of each: the fewest with nearly the best throughput.
    """
    rounds = rounds_of(samples, sessions, patience)
    _demand_svg(output)
    if config is not None and not keep:
        raise BadUseError("--config says where --keep keeps it: give both")
    names = named([*benchmarked(), NETWORK_LIMIT] if readers is None else readers.split(","))
    found_config = config or default_config() if keep else None
    conf = None if found_config is None else configuration(found_config)
    loaded = opened(workload, timeout)
    show = _as_json(sweeps.report) if as_json else _show
    with shown_when_interrupted(show):
        swept = sweeping.in_flight(names, loaded, values, rounds, admit(env))
    failed = _failures(swept)
    show(swept)
    if not any(value.samples for reader in swept.readers for value in reader.values):
        raise _nothing(swept, failed)
    if output is not None:
        write_output(output, curves.of_sweep(swept).encode())
    if found_config is not None and conf is not None:
        kept = sweeps.keep(conf, found_config.parent, Machine.get_unique_machine_name(), swept)
        published = found_config.parent / conf.results_dir / "benchmarks.json"
        click.echo(f"zcb sweep: kept in {kept}{'' if published.is_file() else _UNPUBLISHED}", err=True)
    if failed:
        raise MeasurementError("; ".join(failed))


@sweep.command("gap", epilog="Example: zcb sweep gap w.json --first-byte-ms 5,20 --connection-mb-s 90 -o x.svg")
@click.argument("workload", type=click.Path(path_type=Path))
@click.option(
    "--readers", metavar="R,R,...", help="Readers that are measured (default: all with a setting for the gap)."
)
@click.option(
    "--gaps",
    type=Values(0, 10**6),
    default=gap_sweeps.GAPS,
    help=f"Stored chunks between two wanted ones.  [default: {_listed(gap_sweeps.GAPS)}]",
)
@click.option(
    "--first-byte-ms",
    type=Values(1, 10_000),
    default=gap_sweeps.FIRST_BYTES_MS,
    help=f"The store's times to the first byte.  [default: {_listed(gap_sweeps.FIRST_BYTES_MS)}]",
)
@click.option(
    "--connection-mb-s",
    type=Values(1, 100_000),
    default=gap_sweeps.CONNECTIONS_MB_S,
    help=f"Rates of each of its connections.  [default: {_listed(gap_sweeps.CONNECTIONS_MB_S)}]",
)
@rounds_options
@timeout_option
@ENV
@click.option("--json", "as_json", is_flag=True, help="Print all samples, ratios and best gaps as JSON.")
@click.option("-o", "--output", type=OutputFile(), help="Draw it into this SVG file too.")
def gap(
    workload: Path,
    readers: str | None,
    gaps: tuple[int, ...],
    first_byte_ms: tuple[int, ...],
    connection_mb_s: tuple[int, ...],
    samples: int,
    sessions: int,
    patience: float,
    timeout: float,
    env: tuple[str, ...],
    as_json: bool,
    output: Path | None,
) -> None:
    """Find up to which gap one merged range is faster than separate ranges.

    The embedded store is started anew for each service time, and at the end as it was.
    """
    rounds = rounds_of(samples, sessions, patience)
    _demand_svg(output)
    names = gap_sweeps.with_merge_setting() if readers is None else named(readers.split(","))
    loaded = opened(workload, timeout)
    gap_sweeps.check(names, loaded)
    show = _as_json(gap_results.report) if as_json else _show_gaps
    with shown_when_interrupted(show):
        swept = gap_sweeps.sweep(names, loaded, gaps, first_byte_ms, connection_mb_s, rounds, admit(env))
    failed = sorted(
        {blamed(cell.reader, pair.error) for cell in swept.cells for pair in cell.pairs if pair.error},
        key=wrong_data_first,
    )
    reasons = {f"{cell.reader}: {pair.na}" for cell in swept.cells for pair in cell.pairs if pair.na}
    if all(cell.best_gap() is None for cell in swept.cells):
        raise MeasurementError("; ".join(failed)) if failed else BadUseError("; ".join(sorted(reasons)))
    show(swept)
    if output is not None:
        write_output(output, curves.of_gaps(swept).encode())
    if failed:
        raise MeasurementError("; ".join(failed))


def _as_json[Swept](report: Callable[[Swept], dict[str, Any]]) -> Callable[[Swept], None]:
    return lambda swept: click.echo(pretty(report(swept)))


def _demand_svg(output: Path | None) -> None:
    if output is not None and output.suffix != ".svg":
        raise BadUseError(f"-o writes an SVG file, and {output.name[:80]!r} does not end with .svg")


def _failures(swept: InFlightSweep) -> list[str]:
    """Return what failed, wrong data first, as often as it has another reason."""
    reasons = {
        (reader.reader, value.error): value.in_flight
        for reader in swept.readers
        for value in reversed(reader.values)
        if value.error is not None
    }
    said = [blamed(f"{reader} with {value} in flight", error or "") for (reader, error), value in reasons.items()]
    return sorted(said, key=wrong_data_first)


def _nothing(swept: InFlightSweep, failed: Sequence[str]) -> BadUseError | MeasurementError:
    if failed:
        return MeasurementError("; ".join(failed))
    reasons = {reader.reader: value.na for reader in swept.readers for value in reader.values if value.na is not None}
    return BadUseError("; ".join(f"{name} cannot do this workload: {reason}" for name, reason in reasons.items()))


def _show(swept: InFlightSweep) -> None:
    console = Console(highlight=False)
    console.print(f"{swept.label} at {swept.target}, {cores_in_words(swept.cores)}", markup=False)
    most = sweeps.best(swept)
    for reader in swept.readers:
        console.print(_table(swept, reader, most))
        for reason in dict.fromkeys(value.na or value.error for value in reader.values if not value.samples):
            console.print(f"{reader.reader}: {reason}", markup=False)
    if not most:
        return
    console.print(f"Knee: the fewest in flight within {NEARLY:.0%} of the best throughput, with its interval.")
    for line in _knees(swept):
        console.print(line, markup=False, soft_wrap=True)


def _table(swept: InFlightSweep, reader: SweptReader, most: float) -> Table:
    found = reader.knee()
    table = Table(title=reader.reader, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("in\nflight", "seen", "Gbit/s", "+-"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", min_width=BAR, no_wrap=True)
    for heading in ("ms\na read", "peak\nMiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for value in reader.values:
        table.add_row(str(value.in_flight), *_cells(swept, value, most), _note(value, found))
    return table


def _cells(swept: InFlightSweep, value: SweptValue, most: float) -> list[str | Text]:
    figures = {key: swept.figure(value, key) for key in sweeps.FIGURES}
    rate = figures["array_gbit_s"]
    return [
        median(figures["max_in_flight"]),
        median(rate),
        spread(rate),
        Text("" if rate is None or not most else bar(rate.median / most), style="blue"),
        median(figures["read_seconds"], 1e3),
        median(figures["peak_rss_bytes"], 2**-20),
    ]


def _note(value: SweptValue, found: Knee | None) -> str:
    if not value.samples:
        return "failed" if value.error else "n/a"
    return "knee" if found is not None and found.is_at(value.in_flight) else ""


def _knees(swept: InFlightSweep) -> Iterator[str]:
    """Yield a line for each reader, aligned."""
    known = [(reader, found) for reader in swept.readers if (found := reader.knee()) is not None]
    widest = max((len(reader.reader) for reader, _ in known), default=0)
    for reader, found in known:
        value = next(one for one in reader.values if one.in_flight == found.value)
        rate = swept.figure(value, "array_gbit_s")
        reached = "" if rate is None or math.isinf(rate.median) else f": {number(rate.median)} Gbit/s"
        yield f"{reader.reader:{widest}}  {curves.knee_in_words(found)}{reached}"


def _show_gaps(swept: GapSweep) -> None:
    """Print, of each reader, the merged range's time over that of separate ones, by service time and gap."""
    console = Console(highlight=False)
    console.print(
        f"{swept.label}, {swept.in_flight} in flight, {cores_in_words(swept.cores)}: "
        "one merged range over separate ranges",
        markup=False,
    )
    for reader in dict.fromkeys(cell.reader for cell in swept.cells):
        console.print(_gap_table(reader, [cell for cell in swept.cells if cell.reader == reader]))
    console.print(
        "Below 1x the merged range is faster; * where the interval leaves out 1. The rule: latency x bandwidth of a "
        "connection."
    )


def _gap_table(reader: str, cells: Sequence[GapCell]) -> Table:
    table = Table(title=reader, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("ms", "MB/s", *(f"gap\n{_size(pair.gap_bytes)}" for pair in cells[0].pairs), "rule"):
        table.add_column(heading, justify="right")
    table.add_column("merging pays")
    for cell in cells:
        ratios = [_ratio(pair.ratio()) for pair in cell.pairs]
        table.add_row(
            number(cell.first_byte_ms),
            number(cell.connection_mb_s),
            *ratios,
            _size(cell.rule_bytes),
            _pays(cell),
        )
    return table


def _ratio(found: Interval | None) -> str:
    if found is None:
        return "-"
    return f"{times(found.median)}x{'*' if found.sure and not found.low <= 1 <= found.high else ' '}"


def _pays(cell: GapCell) -> str:
    found = cell.best_gap()
    if found is None:
        return "-"
    known = [ratio for pair in cell.pairs if (ratio := pair.ratio()) is not None]
    count = "" if any(ratio.sure for ratio in known) else f" (n={max(ratio.count for ratio in known)})"
    if found.above is None:
        return f"below {_size(cell.pairs[0].gap_bytes)}{count}"
    if found.below is not None:
        return f"to {_size(found.above)}{count}"
    return f"{'at all gaps' if len(known) > 1 else 'at this gap'}{count}"


def _size(nbytes: float) -> str:
    return f"{number(nbytes / 2**20)} MiB" if nbytes >= 2**20 else f"{number(nbytes / 2**10)} KiB"
