"""Surveys as tables of markdown, one for each workload: what docs/results.md shows.

``python -m studies.survey_tables s3.json`` prints a survey; with the file of a second target, its times stand beside
those of the first, with their 95th percentiles, and the rankings that turn over between the two are listed.
``--short`` prints a survey with a row for each workload and a column for each reader.
"""

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from harness.readers import reader_class
from harness.readers.settings import in_words
from harness.results.intervals import Interval
from harness.results.sample import FLAG_IN_FLIGHT, NETWORK_LIMIT, Sample
from harness.results.slower import same_rounds, slower
from harness.results.text import number, times
from harness.results.turnover import p95, turns_over
from studies.reports import Report, load

_GIB = 2**30
_HEADINGS = ("ms", "times slower", "requests, in flight", "CPU s/GiB: reader, store")
_HEADINGS_BESIDE = ("ms", "p95", "times slower")

Survey = Mapping[str, Mapping[str, Report]]
"""Reports by workload and reader."""


@click.command(name="survey_tables")
@click.argument("survey", type=click.Path(path_type=Path, exists=True))
@click.argument("beside", required=False, type=click.Path(path_type=Path, exists=True))
@click.option("--short", is_flag=True, help="A row for each workload instead of a table.")
def survey_tables(survey: Path, beside: Path | None, short: bool) -> None:
    """Print the tables of a survey, and of one at another target beside it."""
    if short and beside is not None:
        raise click.UsageError("--short prints one survey: leave the second out")
    one = by_workload(load(survey))
    other = None if beside is None else by_workload(load(beside))
    for line in short_lines(one) if short else lines(one, other):
        click.echo(line)


def lines(survey: Survey, beside: Survey | None = None) -> Iterator[str]:
    """Yield the lines of all tables.

    Parameters
    ----------
    survey, beside
        Reports by workload and reader, of two targets.
    """
    for workload, readers in survey.items():
        others = {} if beside is None else beside.get(workload, {})
        yield from _table(workload, readers, others)
    if beside is not None:
        yield from _turned(survey, beside)


def short_lines(survey: Survey) -> Iterator[str]:
    """Yield two tables of all readers as documented and two of tuned ones, then settings, and why a row is missing."""
    measured = {workload: {n: of for n, of in readers.items() if of.samples} for workload, readers in survey.items()}
    names = dict.fromkeys(name for readers in measured.values() for name in readers)
    for is_tuned in (False, True):
        if chosen := [name for name in names if bool(reader_class(name).tuned_of) is is_tuned]:
            rows = {of: readers for of, readers in measured.items() if any(name in readers for name in chosen)}
            yield from _short(rows, chosen, slice(0, 2), [NETWORK_LIMIT])
            yield from _short(rows, chosen, slice(2, 4), [])
    for workload, readers in survey.items():
        yield from (f"{workload}: {note}" for note in _notes(readers) if note)


def _short(rows: Survey, names: Sequence[str], figures: slice, last: Sequence[str]) -> Iterator[str]:
    """Yield a table with a column for each of `names`, which has these of `_HEADINGS`, and one for the limit's time."""
    headings = ["; ".join(_HEADINGS[figures]), *names, *last]
    yield from (_line(headings), f"|{'---|' * len(headings)}")
    for workload, readers in rows.items():
        cells = ["; ".join([*_cells(readers[name])][figures]) if name in readers else "-" for name in names]
        yield _line([workload, *cells, *(_limit(readers) for _ in last)])
    yield ""


def by_workload(reports: Sequence[Report]) -> Survey:
    """Return the reports of a survey's file by workload and reader, in the file's order."""
    found: dict[str, dict[str, Report]] = {}
    for report in reports:
        found.setdefault(report.label, {})[report.reader] = report
    return found


def _table(workload: str, readers: Mapping[str, Report], beside: Mapping[str, Report]) -> Iterator[str]:
    headings = ["reader", *_headings(readers, _HEADINGS), *(_headings(beside, _HEADINGS_BESIDE) if beside else ())]
    yield from (f"**{workload}**", "", _line(headings), f"|{'---|' * len(headings)}")
    for name, report in readers.items():
        if report.samples:
            yield _line([name, *_cells(report), *(_cells_beside(beside.get(name)) if beside else ())])
    limits = [_limit(readers), "", "", "", *([_limit(beside), "", ""] if beside else [])]
    yield _line([_limit_name(readers, beside), *limits])
    yield ""
    yield from _notes(readers)


def _headings(readers: Mapping[str, Report], names: Sequence[str]) -> Iterator[str]:
    """Yield headings, the first with its target."""
    target = next(iter(readers.values())).target.removeprefix("embedded:")
    yield from (f"{target}: {names[0]}", *names[1:])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _limit(readers: Mapping[str, Report]) -> str:
    """Return the median of the network limit in ms; all readers of a workload have the same ones."""
    seconds = next(iter(readers.values())).network_limit.get("seconds", [])
    return number(1e3 * statistics.median(seconds)) if seconds else "-"


def _limit_name(*surveys: Mapping[str, Report]) -> str:
    """Return who took the network limit's turns: its client and plan in each survey."""
    first = [next(iter(readers.values())).network_limit for readers in surveys if readers]
    return ", ".join(dict.fromkeys(limit.get("variant") or NETWORK_LIMIT for limit in first))


def _notes(readers: Mapping[str, Report]) -> Iterator[str]:
    """Yield what the settings of tuned readers are, and whose row is missing for which reason."""
    said = [f"`{name}`: {in_words(of.settings)}." for name, of in readers.items() if of.samples and of.settings]
    missing: dict[str, list[str]] = {}
    for name, of in readers.items():
        if of.error or of.na:
            reason = f"failed: {of.error}" if of.error else f"n/a: {of.na}"
            missing.setdefault(reason.partition(": `zcb")[0], []).append(f"`{name}`")  # which command would mend it
    said += [f"{', '.join(names)}: {reason}." for reason, names in missing.items()]
    if said:
        yield from (" ".join(said), "")


def _cells(report: Report) -> Iterator[str]:
    yield _milliseconds(report)
    yield _slower(report)
    requests, in_flight = (_median(report, of) for of in (lambda s: s.requests, lambda s: s.max_in_flight))
    fewer = any(FLAG_IN_FLIGHT in sample.flags for sample in report.samples)
    yield f"{requests}, {in_flight}{' F' if fewer else ''}"
    gib = report.workload["array_bytes"] / _GIB
    yield ", ".join(
        (
            _median(report, lambda sample: sample.cpu_seconds / gib),
            _median(
                report, lambda sample: None if sample.store_cpu_seconds is None else sample.store_cpu_seconds / gib
            ),
        )
    )


def _cells_beside(report: Report | None) -> Iterator[str]:
    if report is None or not report.samples:
        yield from ("-", "-", "-")
        return
    yield _milliseconds(report)
    tail = p95([sample.seconds for sample in report.samples])
    yield "-" if tail is None else number(1e3 * tail.value)
    yield _slower(report)


def _milliseconds(report: Report) -> str:
    found = report.seconds
    if found is None:
        return "-"
    ends = f" [{number(1e3 * found.low)}, {number(1e3 * found.high)}]" if found.sure else ""
    return f"{number(1e3 * found.median)}{ends}"


def _slower(report: Report) -> str:
    found = slower(report.samples, report.workload["in_flight"])
    return ", ".join(filter(None, ("" if found.interval is None else _ratio(found.interval), found.brief))) or "-"


def _ratio(of: Interval) -> str:
    return times(of.median) + (f" [{times(of.low)}, {times(of.high)}]" if of.sure else "")


def _median(report: Report, of: Callable[[Sample], float | None]) -> str:
    known = [value for sample in report.samples if (value := of(sample)) is not None]
    return number(statistics.median(known)) if known else "-"


def _turned(survey: Survey, beside: Survey) -> Iterator[str]:
    """Yield the rankings that turn over, a line for each two readers."""
    headings = ("workload", "faster at the first", "than", "ratio", "ratio at the second")
    yield from (_line(headings), f"|{'---|' * len(headings)}")
    for workload, readers in survey.items():
        others = beside.get(workload, {})
        both = [name for name, report in readers.items() if report.samples and name in others and others[name].samples]
        for one, other in itertools.permutations(both, 2):
            here, there = (same_rounds(of[one].samples, of[other].samples) for of in (readers, others))
            if here and there and turns_over(here, there):
                yield _line([workload, one, other, _ratio(here), _ratio(there)])


if __name__ == "__main__":
    survey_tables()
