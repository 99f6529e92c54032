"""``zcb table``: readers or versions side by side, from the newest results."""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec
from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.cli.against import Against, other_target
from harness.cli.values import default_config
from harness.errors import BadUseError
from harness.readers import why_few_in_flight
from harness.readers.settings import in_words
from harness.results import cells, drift, figures, intervals, metrics, records
from harness.results.cells import Cell, Workload
from harness.results.intervals import Interval
from harness.results.metrics import Metric
from harness.results.records import PassRecord, RowRecord
from harness.results.sample import FLAG_IN_FLIGHT, FLAGS
from harness.results.slower import slower
from harness.results.text import coverage, few, number, short_label, times

_WIDTH = 112
_CELL = 12
"""Width of a reader's cells at least."""
_GAP = 2
_BAR = 4
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@click.command(epilog="Example: zcb table --metric requests --baseline tensorstore")
@click.option(
    "--metric", default=metrics.DEFAULT_METRIC, show_default=True, help="seconds, requests, times_slower, ..."
)
@click.option("--commit", help="Tag, commit or zarr version to show (default: the newest).")
@click.option("--target", help="Where was read from, e.g. embedded:s3 (default: where was measured last).")
@click.option("--baseline", help="Reader that the others are compared with (default: zarr-python+fsspec).")
@click.option(
    "--by",
    type=click.Choice(["reader", "commit"]),
    default="reader",
    show_default=True,
    help="What stands side by side: the readers at one commit, or the commits for each reader.",
)
@click.option(
    "--against",
    metavar="TARGET|PROFILE",
    help="Put another target, or profile of the embedded store, beside it, and name the rankings that turn over.",
)
@click.option("--pattern", help="Show the workloads of one pattern only.")
@click.option("--readers", metavar="R,R,...", help="Show these readers only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="asv configuration whose results are shown (default: the releases).",
)
def table(
    metric: str,
    commit: str | None,
    target: str | None,
    baseline: str | None,
    by: str,
    against: str | None,
    pattern: str | None,
    readers: str | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Show workloads x readers: the median, its ratio to a baseline reader, a bar and the interval."""
    shown = metrics.metric(metric)
    if by == "commit" and (commit or baseline):
        raise BadUseError("--by commit compares commits with each other: it takes neither --commit nor --baseline")
    every = records.load(config or default_config())
    only = readers.split(",") if readers else None
    passes = _chosen(cells.at_one_place(every, target), pattern, only)
    if against is not None:
        if by == "commit" or baseline or metric != metrics.DEFAULT_METRIC:
            raise BadUseError("--against compares times of two targets: it takes neither --by, --baseline nor --metric")
        other = cells.at_one_place(every, other_target(every, against, passes[0].target))
        _show_against((passes, _chosen(other, pattern, only)), commit, as_json)
        return
    versions = cells.variants(passes)
    notices = drift.drift_notices(drift.control_changes(versions))
    if by == "commit":
        view: _View = _ByCommit(metric=shown, versions=versions)
    else:
        name = _version(versions, commit)
        found = cells.newest(versions[name])
        view = _ByReader(metric=shown, version=name, found=found, baseline=_baseline(found, baseline))
    if as_json:
        head = {"schema": 1, "metric": shown.key, "unit": shown.unit, "place": cells.place(passes[0])}
        click.echo(json.dumps({**head, "rows": list(view.rows()), "notices": notices}, indent=1))
        return
    console = _console()
    console.print(view.drawn(console, cells.place(passes[0])))
    for notice in notices:
        console.print(f"[bold yellow]![/] {escape(notice)}")


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return Console(width=_WIDTH, highlight=False)  # a log or a file can be wider than the 80 columns assumed
    return console


def _show_against(sides: Sequence[Sequence[PassRecord]], commit: str | None, as_json: bool) -> None:
    """Print two targets side by side, each at the version that was asked for."""
    versions = [cells.variants(passes) for passes in sides]
    names = [_version(of, commit) for of in versions]
    view = Against(
        names=[passes[0].target for passes in sides],
        versions=names,
        sides=[cells.by_workload(cells.newest(of[name])) for of, name in zip(versions, names, strict=True)],
    )
    if as_json:
        click.echo(json.dumps(view.as_json(), indent=1))
    else:
        _console().print(view.drawn())


def _chosen(passes: Sequence[PassRecord], pattern: str | None, readers: Sequence[str] | None) -> list[PassRecord]:
    """Return the passes with the rows of one pattern and of some readers only; None is all of them."""
    every = [row for one in passes for row in one.rows]
    _demand_known("pattern", [pattern] if pattern else [], dict.fromkeys(row.pattern for row in every))
    _demand_known("reader", readers or [], dict.fromkeys(row.reader for row in every))
    kept = [
        [row for row in one.rows if pattern in (None, row.pattern) and (readers is None or row.reader in readers)]
        for one in passes
    ]
    return [msgspec.structs.replace(one, rows=rows) for one, rows in zip(passes, kept, strict=True) if rows]


def _demand_known(what: str, asked: Iterable[str], known: Collection[str]) -> None:
    for name in asked:
        if name not in known:
            raise BadUseError(f"no results of {what} {name!r}: there are {', '.join(known)}")


def _version(versions: dict[str, list[PassRecord]], asked: str | None) -> str:
    """Return the version that was asked for by its name, its number or its commit; the newest one by default."""
    if asked is None:
        return list(versions)[-1]
    for name, passes in versions.items():
        if asked in (name, name.removeprefix("v"), name.removeprefix("zarr ")):
            return name
        if len(asked) >= 4 and passes[0].commit.startswith(asked):
            return name
    raise BadUseError(f"no results of commit {asked!r}: there are {', '.join(versions)}")


def _baseline(found: Sequence[Cell], asked: str | None) -> str:
    known = cells.readers(found)
    _demand_known("reader", [asked] if asked else [], known)
    return asked or (cells.DEFAULT_BASELINE if cells.DEFAULT_BASELINE in known else known[0])


def _plain(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    ends = {"low": interval.low, "high": interval.high, "coverage": interval.coverage}
    known = ends if interval.sure else dict.fromkeys(ends)
    return {"median": interval.median, **known, "count": interval.count, "processes": interval.processes}


def _json_row(version: str, cell: Cell, metric: Metric, ratio: Interval | None) -> dict[str, Any]:
    row = cell.row
    distance = slower(row.samples, row.in_flight)
    return {
        "version": version,
        "workload": row.label,
        "in_flight": row.in_flight,
        "reader": row.reader,
        "value": _plain(figures.shown(row, metric.key)),
        "ratio": _plain(ratio),
        "times_slower": _plain(distance.interval),
        "times_slower_note": distance.note,
        "floor_seconds": row.floor_seconds,
        "flags": {flag: sum(flag in s.flags for s in row.samples) for flag in FLAGS},
        "versions": row.versions,
        "settings": row.settings,
        "na": row.na,
        "error": row.error,
    }


_STYLES = {"better": "bold blue", "worse": "bold yellow", "": ""}
"""What is better or worse for sure stands out."""


def _times(ratio: Interval | None, metric: Metric) -> Text:
    """Return a ratio as it is shown; empty where there is none."""
    return Text() if ratio is None else Text(f"{times(ratio.median)}x", style=_STYLES[ratio.improves(metric.better)])


_FLOOR_IS = (
    "Floor: computed from the store's first byte, connections and link, for chunks by their index or shards whole."
)


def _floor(found: Iterable[Cell], metric: Metric) -> str:
    """Return the least time that the store leaves, beside times and ratios; empty where it is unknown."""
    known = [cell.row.floor_seconds for cell in found if cell.row.floor_seconds is not None]
    if not known or metric.key not in (metrics.DEFAULT_METRIC, metrics.TIMES_SLOWER):
        return ""
    return f"floor {number(1e3 * known[-1])} ms"


@dataclass
class _Notes:
    """Reasons that cells refer to, numbered in order of appearance."""

    reasons: dict[str, list[str]] = field(default_factory=dict)
    flags: dict[str, None] = field(default_factory=dict)
    causes: dict[str, None] = field(default_factory=dict)
    """Why readers that are marked for too few requests in flight had no more."""
    settings: dict[str, None] = field(default_factory=dict)
    """What tuned readers were given."""

    def cell(self, row: RowRecord, metric: Metric) -> Text:
        """Return what stands where a row has no value."""
        reason = row.na or row.error
        if reason is None:
            why = self.mark(row, slower(row.samples, row.in_flight).note) if metric.key == metrics.TIMES_SLOWER else ""
            return Text(f"- {why}".rstrip(), style="dim")
        said = "n/a" if row.na else "failed"
        return Text(f"{said} {self.mark(row, reason)}", style="dim" if row.na else "bold red")

    def mark(self, row: RowRecord, reason: str) -> str:
        """Return the number that refers to a reason; empty where there is none."""
        if not reason:
            return ""
        named = self.reasons.setdefault(reason, [])
        if row.reader not in named:
            named.append(row.reader)
        return f"[{list(self.reasons).index(reason) + 1}]"

    def distance(self, row: RowRecord) -> Text:
        """Return how many times slower than the limit a row is; where that is below 1 or unknown, with its reason."""
        found = slower(row.samples, row.in_flight)
        figure = "" if found.interval is None else times(found.interval.median)
        return Text(" ".join(filter(None, (figure, self.mark(row, found.note)))), style="dim")

    def letters(self, row: RowRecord) -> str:
        """Return the marks of a row: flags that at least half of its samples carry; note what belongs to them."""
        found = [f for f in FLAGS if 2 * sum(f in s.flags for s in row.samples) >= max(1, len(row.samples))]
        self.flags |= dict.fromkeys(found)
        cause = why_few_in_flight(row.reader, row.samples, row.in_flight)
        if cause and FLAG_IN_FLIGHT in found:
            self.causes[f"{FLAGS[FLAG_IN_FLIGHT].letter} {row.reader}: {cause}"] = None
        if row.settings:
            self.settings[f"{row.reader}, {row.label}: {in_words(row.settings)}"] = None
        return "".join(FLAGS[flag].letter for flag in found)

    def lines(self) -> Iterator[str]:
        """Yield the footnotes."""
        for place, (reason, named) in enumerate(self.reasons.items(), 1):
            yield f"[{place}] {', '.join(named)}: {reason}"
        for flag in self.flags:
            yield f"{FLAGS[flag].letter}: {FLAGS[flag].meaning}"
        yield from self.causes
        yield from self.settings


class _View:
    """What is printed: a table for people, or rows for programs."""

    def rows(self) -> Iterator[dict[str, Any]]:
        raise NotImplementedError

    def drawn(self, console: Console, place: str) -> Group:
        raise NotImplementedError


def _titled(metric: Metric) -> str:
    better = f", {metric.better} is better" if metric.better else ""
    return f"{metric.title}{f' in {metric.unit}' if metric.unit else ''}{better}"


def _empty_table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, _GAP, 0, 0))


def _parts(reader: str) -> list[str]:
    """Split a reader's name where a new line may start, as ``+fsspec`` in ``zarr-python+fsspec``."""
    return reader.replace("+", "\n+").split("\n")


@dataclass(kw_only=True)
class _ByReader(_View):
    """Workloads x readers at one version."""

    metric: Metric
    version: str
    found: Sequence[Cell]
    baseline: str

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each workload and reader, with its ratio to the baseline."""
        for readers in cells.by_workload(self.found).values():
            base = readers.get(self.baseline)
            for cell in readers.values():
                ratio = figures.ratio(cell.row, base.row, self.metric.key) if base and base is not cell else None
                yield _json_row(self.version, cell, self.metric, ratio)

    def drawn(self, console: Console, place: str) -> Group:
        """Return the tables: readers that do not fit beside each other follow in a further one."""
        notes = _Notes()
        names = cells.readers(self.found)
        workloads = cells.by_workload(self.found)
        label = max(len(text) for titles in self._titles(workloads, self.metric) for text in titles)
        widest = max(_CELL, *(len(part) for name in names for part in _parts(name)))
        fitting = max(1, (console.width - label - 2 * _GAP) // (widest + _GAP))
        blocks = -(-len(names) // fitting)
        size = -(-len(names) // blocks)
        title = Text(f"{_titled(self.metric)}: {self.version}, {place}", style="bold")
        ascii_only = console.options.ascii_only
        drawn = [self._block(names[i : i + size], workloads, notes, ascii_only) for i in range(0, len(names), size)]
        return Group(title, *drawn, *(Text(line, style="dim") for line in self._caption(notes)))

    @staticmethod
    def _titles(workloads: dict[Workload, dict[str, Cell]], metric: Metric) -> Iterator[tuple[str, str, str]]:
        """Yield each pattern's title, its workload's below it, and the floor below that."""
        for readers in workloads.values():
            row = next(iter(readers.values())).row
            floor = _floor(readers.values(), metric)
            yield row.pattern.replace("_", " "), f"  {short_label(row)}", f"  {floor}" if floor else ""

    def _block(
        self, names: Sequence[str], workloads: dict[Workload, dict[str, Cell]], notes: _Notes, ascii_only: bool
    ) -> Table:
        shown = _empty_table()
        shown.add_column("workload", no_wrap=True)
        for name in names:
            shown.add_column("\n".join(_parts(name)), min_width=_CELL, no_wrap=True)
        above = ""
        titles = self._titles(workloads, self.metric)
        for readers, (pattern, title, floor) in zip(workloads.values(), titles, strict=True):
            known = [i.median for cell in readers.values() if (i := figures.shown(cell.row, self.metric.key))]
            highest = max(known, default=0)
            line = [self._cell(readers, name, highest, notes, ascii_only) for name in names]
            head = f"{pattern}\n" if pattern != above else ""
            label = Text.assemble((head, "bold"), f"{title}\n" if floor else title, (floor, "dim"))
            shown.add_row(label, *(Text("\n") + cell if pattern != above else cell for cell in line))
            above = pattern
        return shown

    def _cell(self, readers: dict[str, Cell], name: str, highest: float, notes: _Notes, ascii_only: bool) -> Text:
        if name not in readers:
            return Text("-", style="dim")
        row = readers[name].row
        interval = figures.shown(row, self.metric.key)
        if interval is None:
            return notes.cell(row, self.metric)
        of_limit = self.metric.key == metrics.TIMES_SLOWER
        why = notes.mark(row, slower(row.samples, row.in_flight).note) if of_limit else ""
        figure = " ".join(filter(None, (number(interval.median), why)))
        text = Text.assemble(figure, " ", self._ratio(row, readers.get(self.baseline)), "\n")
        text.append(_bar(interval.median / highest if highest else 0, ascii_only), style="dim")
        text.append(f"{_spread(interval)} {notes.letters(row)}", style="dim")
        return text

    def _ratio(self, row: RowRecord, base: Cell | None) -> Text:
        ratio = None if base is None or base.row is row else figures.ratio(row, base.row, self.metric.key)
        return _times(ratio, self.metric)

    def _caption(self, notes: _Notes) -> Iterator[str]:
        covers = coverage(cell.row for cell in self.found)
        yield f"Median, x: ratio to {self.baseline}, by rounds; bar; +-: interval of the median. {covers}"
        if any(_floor([cell], self.metric) for cell in self.found):
            yield _FLOOR_IS
        yield self.metric.meaning
        yield from notes.lines()


def _bar(share: float, ascii_only: bool) -> str:
    if ascii_only:
        return ("#" * max(1, round(share * _BAR))).ljust(_BAR + 1)
    eighths = max(1, round(share * _BAR * 8))
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).strip().ljust(_BAR + 1)


def _spread(interval: Interval) -> str:
    """Return the larger half of an interval in percent of the median; where there is none, why."""
    if not interval.sure:
        return few(interval)
    if not interval.median or interval.low == interval.high:
        return ""
    half = max(interval.high - interval.median, interval.median - interval.low)
    return f"+-{100 * half / abs(interval.median):.0f}%"


@dataclass
class _Version:
    """The cells of one version: figures below each other, each under its heading; a reason where there are none."""

    name: str
    headings: tuple[str, ...]
    cells: list[tuple[Text, ...] | Text] = field(default_factory=list)

    def heading(self) -> str:
        """Return the version's name above the headings of its figures."""
        return f"{self.name}\n{self._line(tuple(map(Text, self.headings)))}"

    def texts(self) -> Iterator[Text]:
        """Yield the cells."""
        for cell in self.cells:
            yield cell if isinstance(cell, Text) else self._line(cell)

    def _line(self, figures: tuple[Text, ...]) -> Text:
        """Return figures side by side; what no cell of this version has takes no place."""
        all_figures = [cell for cell in self.cells if not isinstance(cell, Text)]
        line = []
        for place, figure in enumerate(figures):
            widest = max((len(cell[place]) for cell in all_figures), default=0)
            if widest:
                line.append(Text(" " * (max(widest, len(self.headings[place])) - len(figure))) + figure)
        return Text(" ").join(line)


@dataclass(kw_only=True)
class _ByCommit(_View):
    """Readers of each workload x versions; ratios to other versions are of the medians: they are of other passes."""

    metric: Metric
    versions: dict[str, list[PassRecord]]

    def _columns(self) -> dict[str, dict[tuple[Workload, str], Cell]]:
        return {
            name: {(cell.workload, cell.row.reader): cell for cell in cells.newest(passes)}
            for name, passes in self.versions.items()
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each version, workload and reader, with its ratios to the first version and to the one before."""
        columns = self._columns()
        first = before = next(iter(columns.values()))
        for version, column in columns.items():
            for key, cell in column.items():
                row = _json_row(version, cell, self.metric, self._ratio(cell, first.get(key)))
                yield row | {"ratio_to_version_before": _plain(self._ratio(cell, before.get(key)))}
            before = column

    def _ratio(self, cell: Cell, base: Cell | None) -> Interval | None:
        if base is None or base is cell:
            return None
        new, old = figures.shown(cell.row, self.metric.key), figures.shown(base.row, self.metric.key)
        return None if new is None or old is None else intervals.over(new, old)

    def drawn(self, console: Console, place: str) -> Group:
        """Return the table."""
        notes, columns = _Notes(), self._columns()
        keys = dict.fromkeys(key for column in columns.values() for key in column)
        names = cells.readers([cell for column in columns.values() for cell in column.values()])
        lines = [
            key for work in dict.fromkeys(work for work, _ in keys) for name in names if (key := (work, name)) in keys
        ]
        versions = self._versions(columns, lines, notes)
        shown = _empty_table()
        shown.add_column("workload", overflow="fold")
        for version in versions:
            shown.add_column(version.heading(), no_wrap=True)
        above = None
        for key, *found in zip(lines, *(version.texts() for version in versions), strict=True):
            workload, reader = key
            if workload != above:
                shown.add_section()
                floor = _floor([column[key] for column in columns.values() if key in column], self.metric)
                title = Text(workload[1].replace("_", " "), style="bold")
                shown.add_row(Text.assemble(title, (f", {floor}" if floor else "", "dim")))
                above = workload
            shown.add_row(f"  {reader}", *found)
        heading = Text(f"{_titled(self.metric)}, by version, {place}", style="bold")
        return Group(heading, shown, *(Text(line, style="dim") for line in self._caption(list(columns), notes)))

    def _versions(
        self,
        columns: dict[str, dict[tuple[Workload, str], Cell]],
        lines: Sequence[tuple[Workload, str]],
        notes: _Notes,
    ) -> list[_Version]:
        """Return what stands in each version's column: the ratio to the version before where that is not the first."""
        found = [_Version(name, (self.metric.unit, "first", "before", "limit", "")) for name in columns]
        for key in lines:
            line = [column.get(key) for column in columns.values()]
            befores = [None, None, *line[1:]]
            for version, cell, before in zip(found, line, befores, strict=False):
                version.cells.append(self._cell(cell, (line[0], before), notes))
        return found

    def _cell(
        self, cell: Cell | None, bases: tuple[Cell | None, Cell | None], notes: _Notes
    ) -> tuple[Text, ...] | Text:
        if cell is None:
            return Text("-", style="dim")
        interval = figures.shown(cell.row, self.metric.key)
        if interval is None:
            return notes.cell(cell.row, self.metric)
        ratios = (_times(self._ratio(cell, base), self.metric) for base in bases)
        limit = notes.distance(cell.row) if self.metric.key == metrics.DEFAULT_METRIC else Text()
        return Text(number(interval.median)), *ratios, limit, Text("" if interval.sure else few(interval), style="dim")

    def _caption(self, versions: Sequence[str], notes: _Notes) -> Iterator[str]:
        before = ", before: to the version before it" if len(versions) > 2 else ""
        yield (
            f"Median; first: ratio to {versions[0]}{before}; it stands out where the intervals of the two medians are "
            f"apart. n: fewer than {intervals.FEWEST} values, which have no interval. "
            f"{coverage(cell.row for column in self._columns().values() for cell in column.values())}"
        )
        if self.metric.key == metrics.DEFAULT_METRIC:
            yield "limit: times slower than the network limit in the same rounds, by medians."
            if any(_floor([cell], self.metric) for column in self._columns().values() for cell in column.values()):
                yield _FLOOR_IS
        yield self.metric.meaning
        yield from notes.lines()
