"""One full run of every reader on every pattern, as docs/results.md shows it.

``zcb store start --profile s3``, the presets demo and headline written, then
``python -m studies.survey --in-flight 100 -o survey.json``: tables on stdout, every report in the file, from which
``python -m studies.survey_tables survey.json`` makes the tables again. Each row rests on fresh processes, all workloads
of a session in the same ones; an interval is over their medians.
"""

from pathlib import Path

import click
import msgspec

from harness.errors import BadUseError
from harness.machine.log import show_progress
from harness.measure.conductor import SESSIONS, Conductor, Plan
from harness.measure.report import read_reports
from harness.paths import write_atomically
from harness.readers import benchmarked, reader_class
from harness.targets.resolve import resolve
from harness.workload import cases
from harness.workload.create import create_workload
from studies import survey_tables
from studies.reports import load

_ROUNDS = 3
_SECONDS_OF_SESSION = 10.0
"""A workload that takes as long in a session has one round of it."""


@click.command()
@click.option("--target", default="embedded", show_default=True)
@click.option("--in-flight", type=click.IntRange(1, 10_000), default=100, show_default=True)
@click.option("--sessions", type=click.IntRange(1, 1000), default=SESSIONS, show_default=True, help="Fresh processes.")
@click.option(
    "--trials",
    type=click.IntRange(1, 100),
    default=Plan.trials,
    show_default=True,
    help="Turns of each plan of the network limit, before its best is taken.",
)
@click.option("--readers", default=",".join(benchmarked()), metavar="A,B", help="Who takes part (default: all).")
@click.option("--only", multiple=True, default=[""], metavar="TEXT", help="Workloads whose name contains one of these.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def survey(
    target: str, in_flight: int, sessions: int, trials: int, readers: str, only: tuple[str, ...], output: Path
) -> None:
    """Measure every reader on every case of workloads.toml that has a title for it."""
    show_progress(lambda line: click.echo(line, err=True))
    names = [reader_class(name).name for name in readers.split(",")]
    titled = {case.survey: case for case in cases.load().all if case.survey is not None}
    work = {title: case for title, case in titled.items() if any(text in title for text in only)}
    if not work:
        raise BadUseError(f"no workload's name contains {' or '.join(map(repr, only))}: {', '.join(titled)}")
    place = resolve(target)
    workloads = [
        create_workload(case.pattern, place, dataset=case.dataset, parameters=case.parameters, in_flight=in_flight)
        for case in work.values()
    ]
    plan = Plan(
        samples=_ROUNDS * sessions,
        sessions=sessions,
        minimum=sessions,
        budget_seconds=_SECONDS_OF_SESSION * sessions,
        trials=trials,
    )
    with Conductor(names, plan=plan) as conductor:
        found = dict(zip(work, conductor.measure_all(workloads), strict=True))
    reports = [one for rows in found.values() for one in msgspec.json.decode(read_reports(rows[:-1], rows[-1]))]
    write_atomically(output, msgspec.json.encode(reports) + b"\n")
    for line in survey_tables.lines(survey_tables.by_workload(load(output))):
        click.echo(line)


if __name__ == "__main__":
    survey()
