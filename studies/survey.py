"""One full run of every reader on every pattern, as docs/results.md shows it.

``zcb store start --profile s3``, the presets demo and headline written, then
``python -m studies.survey --in-flight 100 -o survey.json``: tables on stdout, every report in the file.
``--pairs tensorstore,zarrs-planned`` adds how the second of two readers stands against the first: the median of the
ratios of the same rounds, with its interval.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from harness.errors import BadUseError
from harness.machine.log import show_progress
from harness.measure.conductor import Conductor, Plan, Row
from harness.measure.report import read_reports
from harness.paths import write_atomically
from harness.readers import benchmarked, reader_class
from harness.results.intervals import interval
from harness.results.sample import NETWORK_LIMIT
from harness.results.slower import slower
from harness.results.text import number, times
from harness.targets.resolve import resolve
from harness.workload import cases
from harness.workload.create import create_workload


@click.command()
@click.option("--target", default="embedded", show_default=True)
@click.option("--in-flight", type=click.IntRange(1, 10_000), default=100, show_default=True)
@click.option("--samples", type=click.IntRange(1, 1000), default=15, show_default=True, help="Of few-chunk workloads.")
@click.option("--readers", default=",".join(benchmarked()), metavar="A,B", help="Who takes part (default: all).")
@click.option("--only", default="", metavar="TEXT", help="Workloads whose name contains this.")
@click.option("--pairs", metavar="A,B", help="Show B's time over A's, by rounds.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def survey(target: str, in_flight: int, samples: int, readers: str, only: str, pairs: str | None, output: Path) -> None:
    """Measure every reader on every case of workloads.toml that has a title for it."""
    show_progress(lambda line: click.echo(line, err=True))
    names = [reader_class(name).name for name in readers.split(",")]
    known = cases.load()
    work = {case.survey: case for case in known.all if case.survey is not None and only in case.survey}
    if not work:
        raise BadUseError(f"no workload's name contains {only!r}")
    found: dict[str, list[Row]] = {}
    for title, case in work.items():
        workload = create_workload(
            case.pattern,
            resolve(target),
            dataset=case.dataset,
            parameters=case.parameters,
            in_flight=in_flight,
        )
        rounds = max(2, round(samples * known.patterns[case.pattern].survey_share))
        with Conductor(names, plan=Plan(samples=rounds)) as conductor:
            found[title] = conductor.measure(workload)
        reports = ",".join(read_reports(rows[:-1], rows[-1]) for rows in found.values())
        write_atomically(output, f"[{reports}]\n".encode())  # after each, so that an interruption loses nothing
    columns = [*names, NETWORK_LIMIT]
    click.echo(_table(found, columns, _time))
    click.echo(_table(found, columns, _requests))
    if pairs:
        click.echo(_ratios(found, *pairs.split(",")))


def _table(found: Mapping[str, list[Row]], columns: Sequence[str], cell: Any) -> str:
    lines = [f"| | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for title, rows in found.items():
        by_name = {row.reader: row for row in rows}
        shown = [cell(by_name[name]) if by_name[name].samples else _reason(by_name[name]) for name in columns]
        lines.append(f"| {title} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _reason(row: Row) -> str:
    return "failed" if row.error is not None else "n/a"


def _time(row: Row) -> str:
    """Return the median in ms, and how many times slower than the limit in the same rounds, or why not."""
    seconds = number(1e3 * statistics.median(sample.seconds for sample in row.samples))
    found = slower(row.samples, row.workload.in_flight)
    distance = "" if found.interval is None else f"{times(found.interval.median)}x"
    return ", ".join(filter(None, (seconds, distance, found.brief)))


def _requests(row: Row) -> str:
    """Return requests, most in flight and CPU milliseconds, as medians."""
    figures = (
        [sample.requests for sample in row.samples],
        [sample.max_in_flight for sample in row.samples],
        [1e3 * sample.cpu_seconds for sample in row.samples],
    )
    known = [[value for value in column if value is not None] for column in figures]
    return ", ".join(number(statistics.median(column)) if column else "-" for column in known)


def _ratios(found: Mapping[str, list[Row]], base: str, other: str) -> str:
    lines = [f"| | {other} over {base} | interval | rounds |", "|---|---|---|---|"]
    for title, rows in found.items():
        by_name = {row.reader: row.samples for row in rows}
        ratio = interval(b.seconds / a.seconds for a, b in zip(by_name[base], by_name[other], strict=False))
        if ratio is not None:
            span = f"{times(ratio.low)} to {times(ratio.high)} ({ratio.coverage:.0%})" if ratio.sure else ""
            lines.append(f"| {title} | {times(ratio.median)} | {span} | {ratio.count} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    survey()
