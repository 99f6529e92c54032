"""``zcb read``: one reader on one workload, measured like in asv."""

import functools
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from harness.cli.recorded import record_into
from harness.cli.values import ENV, FiniteRange, OutputFile, check_sessions, timeout_option
from harness.errors import (
    WRONG_DATA,
    BadUseError,
    MeasurementError,
    blamed,
    wrong_data_first,
)
from harness.machine.environment import admit
from harness.machine.interrupts import shown_when_interrupted
from harness.measure.conductor import Conductor, Plan, Row
from harness.measure.report import read_report, read_reports
from harness.measure.timelines import record_several, record_with_wire
from harness.readers import benchmarked, derived, named, reader_class, tunings, why_few_in_flight
from harness.readers.settings import in_words
from harness.readers.worker import NO_TIMELINE
from harness.readers.zarrs import built_with_main
from harness.results.intervals import Interval
from harness.results.metrics import METRICS, TIMES_SLOWER
from harness.results.pilot import sentence
from harness.results.sample import FLAG_IN_FLIGHT, FLAGS, NETWORK_LIMIT, Sample, flags_of
from harness.results.slower import slower
from harness.results.text import number, times
from harness.results.windows import over_time
from harness.targets.client import require
from harness.targets.timeouts import silence_allowed
from harness.timeline.model import check_replaceable
from harness.timeline.overhead import DEFAULT_PAIRS
from harness.timeline.schedule import LIMIT_IS
from harness.workload import files
from harness.workload.model import Workload

_SAMPLES = 5
_COLUMNS = {
    "ms": "seconds",
    "x\nlimit": TIMES_SLOWER,
    "re-\nquests": "requests",
    "re-\ntries": "retries",
    "fetched\nMiB": "fetched",
    "CPU\nms": "cpu_seconds",
    "peak\nMiB": "peak_rss",
    "in\nflight": "max_in_flight",
}
"""Headings and the metrics below them. 80 columns hold them all."""

_READER_WIDTH = 20  # "zarr-python+obstore+", "fused" below


@click.command(epilog="Example: zcb read zarr-python+obstore w.json --samples 7")
@click.argument("readers", metavar="READER")
@click.argument("workload", type=click.Path(path_type=Path))
@click.option("--samples", type=click.IntRange(1, 10_000), help="Timed executions.  [default: 5; none with --timeline]")
@click.option(
    "--sessions",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Fresh processes of each reader, over which the samples are spread.",
)
@click.option(
    "--cold/--hot",
    "cold",
    default=None,
    help="Whether each timed execution of a round reads objects of its own.  [default: hot on the embedded store, cold "
    "elsewhere]",
)
@click.option(
    "--deadline",
    type=FiniteRange(min=0, min_open=True),
    metavar="SECONDS",
    help="When an execution counts as hanging.  [default: 60 s and 120 s per GiB]",
)
@timeout_option
@click.option("--timeline", type=OutputFile(), help="Record one execution into this file.")
@click.option(
    "--pairs",
    type=click.IntRange(0, 1000),
    default=DEFAULT_PAIRS,
    show_default=True,
    help="Recorded and plain executions that show what recording costs.",
)
@click.option(
    "--recordings",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Record so often, each time by a fresh process; the file holds the one in the middle and the range.",
)
@click.option(
    "--wire/--no-wire", default=True, help="With --timeline: capture packets too, where that is possible (default)."
)
@ENV
@click.option("--json", "as_json", is_flag=True, help="Print the samples as JSON.")
def read(
    readers: str,
    workload: Path,
    samples: int | None,
    sessions: int,
    cold: bool | None,
    deadline: float | None,
    timeout: float,
    timeline: Path | None,
    pairs: int,
    recordings: int,
    wire: bool,
    env: tuple[str, ...],
    as_json: bool,
) -> None:
    """Let READER execute a workload file, between turns of the network limit, and show what it cost.

    Several readers, `a,b` or `all`, take turns and stand side by side.
    """
    names = named(benchmarked() if readers == "all" else readers.split(","))
    if timeline is not None and len(names) > 1:
        raise BadUseError("a timeline is of one reader: name only one with --timeline")
    environment = admit(env)
    loaded = files.load(workload)
    if readers == "all":
        names += [name for name in derived() if _is_prepared(name, loaded)]
    if timeline is not None:
        if loaded.stream is not None:
            raise BadUseError(NO_TIMELINE)
        check_replaceable(timeline)
    click.get_current_context().with_resource(silence_allowed(timeout))
    require(loaded.target, loaded.array.metadata_key)
    asked = samples or max(_SAMPLES, sessions)
    check_sessions(asked, sessions)
    if timeline is not None:  # first: whether it can be recorded shows within seconds
        once = functools.partial(record_with_wire, names[0], loaded, wire=wire, environment=environment)
        record_into(
            timeline, names[0], lambda: record_several(lambda n: once(pairs=n), recordings=recordings, pairs=pairs)
        )
    if samples is not None or timeline is None:
        plan = Plan(
            samples=asked,
            sessions=sessions,
            cold=loaded.target.profile is None if cold is None else cold,
            deadline_seconds=deadline,
            with_faults=True,
        )
        _measure(names, loaded, plan, environment, as_json)


def _is_prepared(name: str, loaded: Workload) -> bool:
    """Whether what a reader made of another needs is there: settings that were found, or a build."""
    reader = reader_class(name)
    return tunings.find(reader, loaded) is not None if reader.tuned_of else built_with_main().is_file()


def _measure(names: list[str], loaded: Workload, plan: Plan, environment: Mapping[str, str], as_json: bool) -> None:
    def show(measured: Sequence[Sequence[Row]]) -> None:
        _report(*_in_order(names, measured), as_json)

    with Conductor(names, plan=plan, environment=environment) as conductor, shown_when_interrupted(show):
        measured = conductor.measure_all([loaded])
    rows, limit = _in_order(names, measured)
    if all(row.na is not None for row in rows):
        raise BadUseError("; ".join(f"{row.reader} cannot do this workload: {row.na}" for row in rows))
    failed = sorted((blamed(row.reader, row.error) for row in rows if row.error is not None), key=wrong_data_first)
    if failed and len(failed) == len(rows):
        raise MeasurementError("; ".join(failed))
    if limit.error is not None:
        click.echo(f"zcb: the network limit could not be measured: {limit.error}", err=True)
    _report(rows, limit, as_json)
    if failed:
        raise MeasurementError("; ".join(failed))


def _in_order(names: Sequence[str], measured: Sequence[Sequence[Row]]) -> tuple[list[Row], Row]:
    """Return the rows of the one workload as they were asked for, and the network limit's."""
    by_name = {row.reader: row for row in measured[0]}
    return [by_name[name] for name in names], by_name[NETWORK_LIMIT]


def _report(rows: list[Row], limit: Row, as_json: bool) -> None:
    if as_json:
        click.echo(read_report(rows[0], limit) if len(rows) == 1 else read_reports(rows, limit))
    elif len(rows) == 1:
        _show(rows[0], limit)
    else:
        _compare([*rows, limit])


def _compare(rows: list[Row]) -> None:
    """Print the readers side by side: the median of each column."""
    console = Console()
    work = rows[0].workload
    table = _table(f"{work.label} at {work.target.identity}, {work.in_flight} in flight: medians", "reader")
    for row in rows:
        table.add_row(row.reader, *(_medians(row) or [_without_samples(row)]))
    console.print(table)
    for row in rows:
        if row.na is not None:
            console.print(f"{row.reader}: {row.na}")
    _explain(console, rows, rows[-1])


def _without_samples(row: Row) -> str:
    if row.error is None:
        return "n/a"
    return WRONG_DATA if row.error.startswith(WRONG_DATA) else "failed"


def _medians(row: Row) -> list[str]:
    """Return a table row: the median of each figure, and every flag that any of the samples has."""
    if not row.samples:
        return []
    columns = zip(*(_figures(row, sample) for sample in row.samples), strict=True)
    known = [[value for value in column if value is not None] for column in columns]
    medians = {
        key: statistics.median(values) if values else None for key, values in zip(_COLUMNS.values(), known, strict=True)
    }
    distance = slower(row.samples, row.workload.in_flight).interval
    medians[TIMES_SLOWER] = None if distance is None else distance.median
    return [*_shown(medians.values()), _letters(row.samples)]


def _show(row: Row, limit: Row) -> None:
    console = Console()
    work = row.workload
    table = _table(f"{row.reader}: {work.label} at {work.target.identity}")
    for sample in row.samples:
        table.add_row(*_shown(_figures(row, sample)), _letters([sample]))
    console.print(table)
    if row.samples:
        console.print(_rates(row))
        for line in over_time(row.samples[-1].windows or ()):
            console.print(line)
    _explain(console, [row], limit)


def _conclusions(rows: list[Row]) -> Iterator[str]:
    """Yield what samples say together: how far the limit is and why, the floor, and how many samples it takes."""
    for row in rows:
        found = slower(row.samples, row.workload.in_flight)
        figure = "" if found.interval is None or len(rows) > 1 else f"{_distance(found.interval)} the network limit"
        if figure or found.note:
            yield f"{row.reader}: {'; '.join(filter(None, (figure, found.note)))}"
    floor = rows[0].floor_seconds
    if floor is not None:
        yield f"Floor of the store's first byte, connections and link: {number(1e3 * floor)} ms"
    enough = sentence({row.reader: row.samples for row in rows})
    if enough is not None:
        yield enough


def _distance(of: Interval) -> str:
    """Return how many times slower, with the interval and what it rests on."""
    values = "processes" if of.processes != 1 else "samples of one process"
    rests = f" [{times(of.low)}, {times(of.high)}]" if of.sure else ""
    return f"{times(of.median)}x{rests} ({of.count} {values})"


def _letters(samples: Iterable[Sample]) -> str:
    return " ".join(flag.letter for flag in flags_of(samples))


def _limit_is(limit: Row) -> str:
    """Return what the limit is, with its plan and what that took where it is known."""
    requests, fetched = _known(limit, "requests"), _known(limit, "fetched")
    if not requests or not fetched or not limit.variant:
        return LIMIT_IS
    count, mib = statistics.median(requests), statistics.median(fetched) / 2**20
    return f"{LIMIT_IS} Here {limit.variant}: {number(mib)} MiB, {count:g} requests."


def _explain(console: Console, rows: list[Row], limit: Row) -> None:
    """Print what the limit is, what the flags mean, and the versions that took part."""
    for line in _conclusions(rows):
        console.print(line, markup=False)
    console.print(_limit_is(limit))
    for flag in flags_of(sample for row in rows for sample in row.samples):
        console.print(f"{flag.letter}  {flag.key}: {flag.meaning}")
    for row in rows:
        cause = why_few_in_flight(row.reader, row.samples, row.workload.in_flight)
        if cause:
            console.print(f"{FLAGS[FLAG_IN_FLIGHT].letter}  {row.reader}: {cause}")
        if reader_class(row.reader).tuned_of and row.measured:
            console.print(f"{row.reader}: {in_words(row.settings)}")
    versions = dict.fromkeys(f"{package} {version}" for row in rows for package, version in row.versions.items())
    console.print(", ".join(versions))


def _rates(row: Row) -> str:
    """Return how much the median sample got in a second, of the final arrays."""
    seconds = statistics.median(sample.seconds for sample in row.samples)
    work = row.workload
    rate = f"{work.array_bytes * 8 / seconds / 1e9:.3f} Gbit/s of the final arrays{_on_the_wire(row)}"
    if work.executed_reads == 1:
        return rate
    name = "windows" if work.stream else "crops" if work.pattern == "random_crops" else "reads"
    return f"{work.executed_reads / seconds:.1f} {name} per second, {work.concurrent_reads} at once; {rate}"


def _on_the_wire(row: Row) -> str:
    """Return what crossed the network in the same time, where its interface counts, and how much of it was headers."""
    raw, headers = _known(row, "nic_gbits"), _known(row, "header_share")
    if not raw or not headers:
        return ""
    return f", {statistics.median(raw):.3f} Gbit/s raw, {statistics.median(headers):.1%} of it headers"


def _table(title: str, *first: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for heading in first:
        table.add_column(heading, max_width=_READER_WIDTH, overflow="fold")
    for heading in _COLUMNS:
        table.add_column(heading, justify="right")
    table.add_column("flags")
    return table


def _figures(row: Row, sample: Sample) -> list[float | None]:
    """Return what the columns show of a sample."""
    known = [(_value(row, sample, key), METRICS[key].factor) for key in _COLUMNS.values()]
    return [None if value is None else value * factor for value, factor in known]


def _known(row: Row, key: str) -> list[float]:
    """Return a metric of the samples of which it is known."""
    return [value for sample in row.samples if (value := _value(row, sample, key)) is not None]


def _value(row: Row, sample: Sample, key: str) -> float | None:
    return METRICS[key].of(sample, row.workload.executed_reads)


def _shown(figures: Iterable[float | None]) -> list[str]:
    return ["-" if value is None else number(value) for value in figures]
