"""What the measured versions say, as findings: what changed for sure, what is undecided, how far the limit is.

`harness.results.answer_lines` puts it into words; the terminal and the site's first page show the same ones.
"""

import itertools
import shlex
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from packaging.version import InvalidVersion, Version

from harness.results import cells, drift
from harness.results.cells import Cell
from harness.results.figures import figure
from harness.results.intervals import Interval, over
from harness.results.metrics import DEFAULT_METRIC, TIMES_SLOWER
from harness.results.records import PassRecord, RowRecord
from harness.results.sample import NETWORK_LIMIT
from harness.results.text import short_label

SMALLEST = 0.03
"""Medians that differ by less are taken for equal where their intervals overlap."""

ONE_PROCESS = 0.2
"""What two processes of the same code can differ by (docs/metrics.md): an interval within one says nothing of that."""

_MOST_NAMES = 3
"""Patterns, and readers, that a comparison is told to make: with more of them it takes hours."""

Kind = Literal["faster", "slower", "same", "undecided", "failed"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a reader on a workload from one version to the next."""

    kind: Kind
    """``faster`` and ``slower`` are for sure: the intervals of the two medians are apart, and both rest on enough
    samples, or processes; where one was measured in a single process, they are apart by more than `ONE_PROCESS`,
    and where the machine drifted, by that many times more as the control did that moved most.
    ``undecided`` has too few, or medians that differ while that is not so."""
    reader: str
    pattern: str
    """Its name, e.g. ``chunks_of_one_shard``."""
    workload: str
    """Its name within the pattern, e.g. ``small gap=1``."""
    ratio: float | None = None
    """Seconds after over seconds before, of the medians; None where it failed."""
    interval: tuple[float, float] | None = None
    """Of the ratio; None where one of the two medians has too few samples."""
    seconds: tuple[float, float] | None = None
    """Medians before and after."""
    requests: tuple[float | None, float | None] = (None, None)
    """Medians before and after; None where they are unknown."""
    processes: tuple[int | None, int | None] = (None, None)
    """Fresh processes that the samples before and after come from."""
    error: str | None = None
    """Why the later version failed where the earlier one did not."""

    @property
    def size(self) -> float:
        """How many times faster or slower, 1 or more."""
        return 1.0 if self.ratio is None else times(self.ratio)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """From one version to the next."""

    before: str
    after: str
    findings: list[Finding]
    """Of every reader under test on every workload that both versions were measured on."""
    command: str | None
    """What would decide the undecided ones that differ most; None where nothing would, or nothing is undecided."""

    def of(self, kind: Kind) -> list[Finding]:
        """Return the findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    @property
    def differences(self) -> list[Finding]:
        """What got slower, and then what got faster."""
        return [*self.of("slower"), *self.of("faster")]


class Distance(msgspec.Struct, frozen=True, kw_only=True):
    """How far a reader is from the network limit on a workload."""

    reader: str
    pattern: str
    workload: str
    slower: float
    """Times slower than the network limit, the median."""
    interval: tuple[float, float] | None
    """Of `slower`; None where there are too few samples."""
    samples: int
    flags: list[str]
    """Keys of the flags that at least half of the samples carry."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a reader is from the network limit over all patterns."""

    reader: str
    slower: float
    """Geometric mean over patterns of the geometric means over their workloads."""
    sure: bool
    """Whether all of it rests on enough samples."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """All that is said of the passes of one place."""

    place: str
    versions: list[str]
    """Oldest first."""
    steps: list[Step]
    """Oldest first."""
    farthest: Distance | None
    """Of the workloads at the newest version that where the best of the readers under test is farthest from the limit;
    None where no distance is known."""
    standings: list[Standing]
    """Readers with a distance on every workload of the newest version, the nearest first, without the controls."""
    possible: list[Standing]
    """The same of the controls but the limit itself: what an I/O plan of our own reaches."""
    patterns: int
    """Patterns that the standings cover."""
    notices: list[str]
    """Where the machine drifted between versions."""


def answer(passes: Sequence[PassRecord], under_test: Collection[str]) -> Answer:
    """Return what passes of one place say; of several Python versions that of the newest pass alone.

    Parameters
    ----------
    passes
        In the order of versions, at least one.
    under_test
        The readers that the versions are about; the other ones do not change with them.
    """
    versions = comparable(passes)
    found = {name: cells.newest(of) for name, of in versions.items()}
    newest = list(found.values())[-1]
    moved = drift.control_changes(versions)
    ranked = sorted(_standings(newest), key=lambda standing: standing.slower)
    return Answer(
        place=cells.place(passes[0]),
        versions=list(versions),
        steps=[
            _step(before, after, found, versions, under_test, _largest_move(moved, before, after))
            for before, after in itertools.pairwise(versions)
        ],
        farthest=_farthest(newest, under_test),
        standings=[standing for standing in ranked if standing.reader not in drift.CONTROLS],
        possible=[standing for standing in ranked if standing.reader in drift.CONTROLS],
        patterns=len({cell.row.pattern for cell in newest}),
        notices=drift.drift_notices(moved),
    )


def comparable(passes: Sequence[PassRecord]) -> dict[str, list[PassRecord]]:
    """Return the passes of each version, oldest first, that ran on the Python version of the newest pass."""
    python = _python(max(passes, key=lambda record: record.started))
    return cells.variants([record for record in passes if _python(record) == python])


def _python(record: PassRecord) -> str:
    return record.python.rpartition(".")[0]


def times(ratio: float) -> float:
    """Return how many times faster or slower a ratio is: 1 or more, whichever way it goes."""
    return max(ratio, 1 / ratio)


def distance(row: RowRecord) -> Interval | None:
    """Return how many times slower than the network limit a row is.

    None where that is unknown, or would say nothing: `harness.results.slower`.
    """
    return figure(row, TIMES_SLOWER)


def usual_flags(row: RowRecord) -> list[str]:
    """Return the flags that at least half of a row's samples carry."""
    flags = sorted({flag for sample in row.samples for flag in sample.flags})
    return [flag for flag in flags if 2 * sum(flag in sample.flags for sample in row.samples) >= len(row.samples)]


def best(found: Iterable[Cell]) -> tuple[Cell, Interval] | None:
    """Return the row that is nearest to the network limit; None where no distance is known."""
    known = [(cell, slower) for cell in found if (slower := distance(cell.row)) is not None]
    return min(known, key=lambda pair: pair[1].median, default=None)


def _step(
    before: str,
    after: str,
    found: Mapping[str, Sequence[Cell]],
    versions: Mapping[str, Sequence[PassRecord]],
    under_test: Collection[str],
    drifted: float,
) -> Step:
    old = {(cell.row.reader, *cell.workload): cell.row for cell in found[before]}
    new = [cell for cell in found[after] if cell.row.reader in under_test]
    findings = [
        finding
        for cell in new
        if (base := old.get((cell.row.reader, *cell.workload))) and (finding := _finding(cell.row, base, drifted))
    ]
    undecided = [finding for finding in findings if finding.kind == "undecided"]
    return Step(
        before=before,
        after=after,
        findings=findings,
        command=_command(versions[before][-1], versions[after][-1], undecided) if undecided else None,
    )


def _largest_move(moved: Iterable[drift.ControlChange], before: str, after: str) -> float:
    """Return how many times faster or slower a control got between two versions: 1 where the machine held still."""
    between = (move for move in moved if (move.before, move.after) == (before, after))
    return max((times(move.ratio) for move in between if move.drifted), default=1.0)


def _finding(row: RowRecord, base: RowRecord, drifted: float) -> Finding | None:
    """Return what became of a row; None where one of the two has no figure and no later failure explains it."""
    if row.error is not None and base.samples:
        return Finding(
            kind="failed", reader=row.reader, pattern=row.pattern, workload=short_label(row), error=row.error
        )
    new, old = figure(row, DEFAULT_METRIC), figure(base, DEFAULT_METRIC)
    ratio = over(new, old) if new and old else None
    if new is None or old is None or ratio is None:
        return None
    return Finding(
        kind=_kind(new, old, drifted),
        reader=row.reader,
        pattern=row.pattern,
        workload=short_label(row),
        ratio=ratio.median,
        interval=(ratio.low, ratio.high) if ratio.sure else None,
        seconds=(old.median, new.median),
        requests=(_median(base, "requests"), _median(row, "requests")),
        processes=(old.processes, new.processes),
    )


def _kind(new: Interval, old: Interval, drifted: float) -> Kind:
    if not (new.sure and old.sure):
        return "undecided"
    same_code = 1 + ONE_PROCESS if 1 in (new.processes, old.processes) else 1.0
    if new.apart(old, same_code * drifted):
        return "faster" if new.median < old.median else "slower"
    return "undecided" if times(new.median / old.median) > 1 + SMALLEST else "same"


def _median(row: RowRecord, key: str) -> float | None:
    found = figure(row, key)
    return None if found is None else found.median


def _farthest(found: Sequence[Cell], under_test: Collection[str]) -> Distance | None:
    tested = cells.by_workload(cell for cell in found if cell.row.reader in under_test)
    nearest = [pair for readers in tested.values() if (pair := best(readers.values())) is not None]
    # A distance that rests on too few samples is told only where there is no better one.
    pair = max(nearest, key=lambda pair: (pair[1].sure, pair[1].median), default=None)
    if pair is None:
        return None
    row = pair[0].row
    return Distance(
        reader=row.reader,
        pattern=row.pattern,
        workload=short_label(row),
        slower=pair[1].median,
        interval=(pair[1].low, pair[1].high) if pair[1].sure else None,
        samples=pair[1].count,
        flags=usual_flags(row),
    )


def _standings(found: Sequence[Cell]) -> Iterator[Standing]:
    workloads = cells.by_workload(found)
    for reader in cells.readers(found):
        by_pattern: dict[str, list[Interval | None]] = {}
        for of in workloads.values():
            slower = distance(of[reader].row) if reader in of else None
            by_pattern.setdefault(next(iter(of.values())).row.pattern, []).append(slower)
        known = [[slower for slower in of if slower is not None] for of in by_pattern.values()]
        complete = all(len(some) == len(of) for some, of in zip(known, by_pattern.values(), strict=True))
        if reader != NETWORK_LIMIT and complete:
            means = [statistics.geometric_mean(slower.median for slower in of) for of in known]
            sure = all(slower.sure for of in known for slower in of)
            yield Standing(reader=reader, slower=statistics.geometric_mean(means), sure=sure)


def _command(before: PassRecord, after: PassRecord, undecided: Sequence[Finding]) -> str | None:
    """Return the comparison that would decide what differs most; None where a version cannot be named to it."""
    from harness.datasets.manifest import PRESETS  # slow to import

    base, head = _comparable_name(before), _comparable_name(after)
    if base is None or head is None:
        return None
    ordered = sorted(undecided, key=lambda finding: -finding.size)
    patterns = list(dict.fromkeys(finding.pattern for finding in ordered))[:_MOST_NAMES]
    readers = list(dict.fromkeys(finding.reader for finding in ordered if finding.pattern in patterns))[:_MOST_NAMES]
    preset = after.settings.get("ZCB_PRESET", PRESETS[0])
    words = ["zcb", "compare", base, head, "--patterns", ",".join(patterns), "--readers", ",".join(readers)]
    setting = f"ZCB_PRESET={shlex.quote(preset)} " if preset != PRESETS[0] else ""
    return setting + shlex.join([*words, "--target", after.settings.get("ZCB_TARGET", after.target)])


def _comparable_name(record: PassRecord) -> str | None:
    """Return a version as `zcb compare` takes it: a release by its number, anything else by its commit."""
    version = record.packages.get("zarr", "")
    try:
        parsed = Version(version)
        released = not (parsed.is_prerelease or parsed.local)
    except InvalidVersion:
        released = False
    return version if released else record.commit[:12] or None
