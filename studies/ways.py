"""What TLS, signed requests and a faster link change: stores with the same objects, surveyed in turns.

``python -m studies.ways record -o ways.json --readers A,B --only large`` starts a store for each way in a state
directory of its own, writes the preset demo into each, and lets the ways take turns: each session has one survey of
every way, in random order, all of it in fresh processes. ``--way plain@2 --way plain@10 --way TLS@10`` sets links of so
many Gbit/s. ``python -m studies.ways table ways.json`` prints the tables of docs/results.md: TLS is held against plain
HTTP behind the same link, where it took part, and all else against the first way. Ratios are of the same sessions, so
that an hour in which the machine is slow is in none of them.
"""

import os
import random
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
import msgspec

from harness.machine.interrupts import terminated_with_cleaning
from harness.measure.conductor import SESSIONS
from harness.paths import contents, write_atomically
from harness.results.intervals import Interval, of_processes
from harness.results.sample import Sample
from harness.results.sessions import by_session
from harness.results.slower import same_rounds
from harness.results.text import number, times
from harness.store.state import KEY_VARIABLES
from studies.reports import Report, load

_PLAIN = "plain"
WAYS: Mapping[str, tuple[str, ...]] = {_PLAIN: (), "TLS": ("--tls",), "TLS, signed": ("--tls", "--auth")}
"""What `zcb store start` is told."""
_GIB = 2**30

Recorded = dict[str, list[list[Report]]]
"""Of each way the reports of each session."""
Row = dict[str, list[Sample]]
"""Of each way the samples of a reader on a workload, each with the session that it is of."""


@click.group()
def main() -> None:
    """Hold ways to reach a store against each other."""


@main.command()
@click.option("--sessions", type=click.IntRange(2, 1000), default=SESSIONS, show_default=True)
@click.option("--readers", required=True, metavar="A,B")
@click.option("--only", multiple=True, required=True, metavar="TEXT", help="As studies.survey has it.")
@click.option("--way", "ways", multiple=True, default=tuple(WAYS), metavar="WAY[@GBIT_S]", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def record(sessions: int, readers: str, only: tuple[str, ...], ways: tuple[str, ...], output: Path) -> None:
    """Survey every way once in each session; the file has all sessions that were finished, however this ends."""
    asked = ["--readers", readers, *(word for text in only for word in ("--only", text))]
    switches = {way: _switches(way) for way in ways}
    found: Recorded = {way: [] for way in ways}
    os.environ |= {variable: secrets.token_hex(16) for variable in KEY_VARIABLES}  # of stores that end with this
    with terminated_with_cleaning(), tempfile.TemporaryDirectory() as folder:
        places = {way: Path(folder) / str(place) for place, way in enumerate(ways)}
        try:
            for way, place in places.items():
                _zcb(place, "store", "start", "--profile", "s3", "--link", "lo", *switches[way])
                _zcb(place, "data", "create", "--target", "embedded", "--preset", "demo")
            draw = random.Random(0)  # noqa: S311 - an order
            for session in range(sessions):
                for way in draw.sample(ways, len(ways)):
                    click.echo(f"session {session}: {way}", err=True)
                    found[way].append(_surveyed(places[way], asked))
                write_atomically(output, msgspec.json.encode(found) + b"\n")
        finally:
            for place in places.values():
                _zcb(place, "store", "stop")


def _switches(way: str) -> list[str]:
    name, _, gbit_s = way.partition("@")
    if name not in WAYS:
        raise click.BadParameter(f"{name!r} is none of {', '.join(WAYS)}", param_hint="--way")
    return [*WAYS[name], *(["--link-gbit-s", gbit_s] if gbit_s else [])]


def _zcb(place: Path, *words: str) -> None:
    _run(place, "-c", "from harness.cli import command; command()", *words)


def _surveyed(place: Path, asked: list[str]) -> list[Report]:
    survey = place / "survey.json"
    _run(place, "-m", "studies.survey", "--sessions", "1", "--trials", "1", *asked, "-o", str(survey))
    return load(survey)


def _run(place: Path, *words: str) -> None:
    environment = os.environ | {"ZCB_STATE_DIR": str(place)}
    subprocess.run([sys.executable, *words], env=environment, check=True, stdout=subprocess.DEVNULL)


@main.command()
@click.argument("recorded", type=click.Path(path_type=Path, exists=True))
def table(recorded: Path) -> None:
    """Print what was recorded, a table for each workload."""
    found = msgspec.json.decode(contents(recorded), type=Recorded)
    for workload, readers in _by_workload(found).items():
        click.echo(f"**{workload}**\n")
        titles = ["reader", *(f"{way}: {'ms' if base is None else f'times {base}'}" for way, base in _columns(found))]
        titles += ["CPU s/GiB of the reader", "of the store", "requests"]
        click.echo(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
        for reader, row in readers.items():
            click.echo(f"| {' | '.join([reader, *_cells(row)])} |")
        click.echo("")


def _columns(ways: Mapping[str, object]) -> Iterator[tuple[str, str | None]]:
    """Yield what the columns of times show: a way by itself, or held against another."""
    first = next(iter(ways))
    for way in ways:
        _, *link = way.split("@")
        plain = "@".join([_PLAIN, *link])
        if way in (first, plain):
            yield way, None
        if way != first:
            yield way, plain if way != plain and plain in ways else first


def _by_workload(found: Recorded) -> dict[str, dict[str, Row]]:
    """Return rows by workload and reader; each sample has its own session's number."""
    rows: dict[str, dict[str, Row]] = {}
    for way, sessions in found.items():
        for session, reports in enumerate(sessions):
            for report in reports:
                gib = report.workload["array_bytes"] / _GIB
                samples = [_per_gib(sample, session, gib) for sample in report.samples]
                rows.setdefault(report.label, {}).setdefault(report.reader, {}).setdefault(way, []).extend(samples)
    return rows


def _per_gib(sample: Sample, session: int, gib: float) -> Sample:
    """Return a sample of a session, whose CPU seconds are those of a GiB of the final array."""
    store = None if sample.store_cpu_seconds is None else sample.store_cpu_seconds / gib
    return msgspec.structs.replace(
        sample, session=session, cpu_seconds=sample.cpu_seconds / gib, store_cpu_seconds=store
    )


def _cells(row: Row) -> Iterator[str]:
    for way, base in _columns(row):
        if base is None:
            yield _spread(of_processes([1e3 * s.seconds for s in of] for of in by_session(row[way])), number)
        else:
            yield _spread(same_rounds(row[way], row[base]), times)
    for of in (lambda s: s.cpu_seconds, lambda s: s.store_cpu_seconds, lambda s: s.requests):
        medians = [_median(samples, of) for samples in row.values()]
        yield medians[0] if len(set(medians)) == 1 else " → ".join(medians)


def _spread(found: Interval | None, words: Callable[[float], str]) -> str:
    if found is None:
        return "-"
    return f"{words(found.median)} [{words(found.low)}, {words(found.high)}]" if found.sure else words(found.median)


def _median(samples: list[Sample], of: Callable[[Sample], float | None]) -> str:
    found = of_processes([of(sample) for sample in one] for one in by_session(samples))
    return "-" if found is None else number(found.median)


if __name__ == "__main__":
    main()
