"""The answer in words: at most ten lines, which the terminal and the site's first page show."""

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from harness.results.answer import Answer, Distance, Finding, Standing, Step
from harness.results.intervals import FEWEST
from harness.results.sample import FLAG_CPU_BOUND
from harness.results.text import number

MOST = 10
"""Lines of an answer at most."""


_REASON = 120
"""Letters of a reason at most."""

_Change = Literal["failed", "slower", "faster"]
_CHANGES: tuple[_Change, ...] = ("failed", "slower", "faster")
"""What is told of first."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an answer."""

    kind: Literal["failed", "slower", "faster", "same", "more", "limit", "undecided", "command", "drift"]
    text: str
    """Without an end of line; a command is one that a shell takes as it is."""


class _Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A line about a change, and what it gives way to where there are too many."""

    rank: tuple[float, float]
    """The lowest is kept the longest."""
    line: Line


def lines(said: Answer) -> list[Line]:
    """Return the answer, the newest versions first; what has no room is counted in a line that says where it stands."""
    rest = [*_limit(said), *_undecided(said.steps), *_drift(said.notices)]
    changes = [ranked for age, step in enumerate(reversed(said.steps)) for ranked in _changes(step, age)]
    if not said.steps:
        alone = f"Only {said.versions[-1]} was measured: there is nothing to compare it with."
        changes = [_Ranked(rank=(0, 0), line=Line(kind="same", text=alone))]
    return [*_fitting(changes, MOST - len(rest)), *rest]


def _fitting(changes: Sequence[_Ranked], room: int) -> list[Line]:
    if len(changes) <= room:
        return [ranked.line for ranked in changes]
    kept = sorted(changes, key=lambda ranked: ranked.rank)[: room - 1]
    more = f"{len(changes) - len(kept)} more such lines: `zcb table --by commit` has every figure."
    return [*(ranked.line for ranked in changes if ranked in kept), Line(kind="more", text=more)]


def _changes(step: Step, age: int) -> Iterator[_Ranked]:
    """Yield what changed for sure in a step, a line per pattern and direction; `age` is 0 for the newest step."""
    title = f"{step.before} -> {step.after}"
    if not step.findings:
        text = f"{title}: no reader of zarr-python was measured on the same workload at both."
        yield _Ranked(rank=(3, age), line=Line(kind="same", text=text))
        return
    if len(step.of("undecided")) == len(step.findings):
        return  # which its line about the undecided says
    if not (step.of("failed") or step.of("slower") or step.of("faster")):
        text = f"{title}: nothing got faster or slower for sure, of {len(step.findings)} compared."
        yield _Ranked(rank=(1.5 if age == 0 else 3, age), line=Line(kind="same", text=text))
        return
    for place, kind in enumerate(_CHANGES):
        groups = _by_pattern(step.of(kind))
        for group in sorted(groups, key=lambda group: -max(finding.size for finding in group)):
            compared = sum(finding.pattern == group[0].pattern for finding in step.findings)
            text = f"{title}, {_words(group[0].pattern)}: {_group(group, kind, compared)}"
            strength = -math.log(max(finding.size for finding in group))
            yield _Ranked(rank=(place, strength), line=Line(kind=kind, text=text))


def _by_pattern(findings: Iterable[Finding]) -> list[list[Finding]]:
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.pattern, []).append(finding)
    return list(groups.values())


def _group(group: Sequence[Finding], kind: _Change, compared: int) -> str:
    """Say what the findings of one kind and pattern have in common: the strongest one, and how many there are."""
    first = max(group, key=lambda finding: finding.size)
    others = _others(group, first)
    count = "" if compared == 1 else f"; {len(group)} of {compared} compared"
    where = f"{first.reader}, {first.workload}{others}{count}"
    if first.ratio is None or first.seconds is None:
        return (
            f"{kind}, and did not before ({where}): {textwrap.shorten(first.error or '', _REASON, placeholder=' ...')}"
        )
    upto = "up to " if len(group) > 1 else ""
    before, after = (number(1e3 * seconds) for seconds in first.seconds)
    return f"{upto}{speed(first)}, {before} -> {after} ms{_requests(first)} ({where})"


def _others(group: Sequence[Finding], first: Finding) -> str:
    """Say how much the other readers changed at most, each by the part of its name that differs."""
    strongest: dict[str, float] = {}
    for finding in group:
        if finding.reader != first.reader and finding.ratio is not None:
            strongest[finding.reader] = max(finding.size, strongest.get(finding.reader, 1.0))
    family = first.reader.partition("+")[0] + "+"
    return "".join(f"; {reader.removeprefix(family)} {factor(size)}x" for reader, size in strongest.items())


def _requests(finding: Finding) -> str:
    before, after = finding.requests
    if before is None or after is None or before == after:
        return ""
    return f", {number(before)} -> {number(after)} requests"


def speed(finding: Finding) -> str:
    """Return ``2.3x faster [2.1, 2.5]``: the numbers are 1 or more, whichever way it goes."""
    low, high = finding.interval or (1.0, 1.0)
    ends = (low, high) if finding.kind == "slower" else (1 / high, 1 / low)
    return f"{factor(finding.size)}x {finding.kind}{_between(finding.interval and ends, finding.size)}"


def _between(ends: tuple[float, float] | None, size: float) -> str:
    return f" [{ends[0]:.{_digits(size)}f}, {ends[1]:.{_digits(size)}f}]" if ends else ""


def factor(value: float) -> str:
    """Return how many times something is another as it is written: with as many decimals as say something."""
    return f"{value:.{_digits(value)}f}"


def _digits(value: float) -> int:
    return 2 if value < 1.995 else 1 if value < 9.95 else 0


def _words(pattern: str) -> str:
    return pattern.replace("_", " ")


def _limit(said: Answer) -> Iterator[Line]:
    if said.farthest is not None:
        yield Line(kind="limit", text=_farthest(said.farthest, said.versions[-1]))
    if said.standings:
        yield Line(kind="limit", text=_nearest(said.standings, said.possible, said.patterns))


def _farthest(most: Distance, version: str) -> str:
    notes = [f"best there: {most.reader}"]
    if FLAG_CPU_BOUND in most.flags:
        notes.append("bound by the CPU")
    if most.interval is None:
        notes.append(f"undecided, with {most.samples} sample{'' if most.samples == 1 else 's'}")
    return (
        f"At {version} zarr-python is farthest from the network limit in {_words(most.pattern)}, {most.workload}: "
        f"{factor(most.slower)}x slower{_between(most.interval, most.slower)} ({'; '.join(notes)})."
    )


def _nearest(standings: Sequence[Standing], possible: Sequence[Standing], patterns: int) -> str:
    first, *others = standings
    second = f", then {_standing(others[0])}" if others else ""
    plan = f"; what an I/O plan of our own reaches: {_standing(possible[0])}" if possible else ""
    over = "the pattern that was measured" if patterns == 1 else f"all {patterns} patterns"
    few = "" if all(one.sure for one in (first, *others[:1], *possible[:1])) else " (undecided: too few samples)"
    return f"Nearest to it over {over}: {_standing(first)}{second}{plan}{few}."


def _standing(one: Standing) -> str:
    return f"{one.reader} {factor(one.slower)}x"


def _undecided(steps: Sequence[Step]) -> Iterator[Line]:
    """Yield what the newest step leaves undecided, and the command that would decide it."""
    left = [(step, found) for step in reversed(steps) if (found := step.of("undecided"))]
    if not left:
        return
    step, found = left[0]
    older = "".join(f"; {len(of)} from {one.before} to {one.after}" for one, of in left[1:3])
    why = "; ".join(_why(found))
    end = ". What differs most is decided by:" if step.command else "."
    text = f"Undecided from {step.before} to {step.after}: {len(found)} of {len(step.findings)} ({why}){older}{end}"
    yield Line(kind="undecided", text=text)
    if step.command:
        yield Line(kind="command", text=step.command)


def _why(found: Sequence[Finding]) -> Iterator[str]:
    few, overlapping = [f for f in found if f.interval is None], [f for f in found if f.interval]
    if few:
        yield f"{f'{len(few)} with ' if overlapping else ''}fewer than {FEWEST} samples"
    if overlapping:
        most = 100 * (max(finding.size for finding in overlapping) - 1)
        yield f"{f'{len(overlapping)} with ' if few else ''}medians up to {most:.0f} % apart, not sure to differ"


def _drift(notices: Sequence[str]) -> Iterator[Line]:
    if notices:
        more = f" So it did {len(notices) - 1} more times between older versions." if len(notices) > 1 else ""
        yield Line(kind="drift", text=notices[-1] + more)
