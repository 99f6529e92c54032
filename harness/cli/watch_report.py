"""What `zcb watch` found, as JSON and as markdown."""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from harness.asv.watch import Commit
from harness.results.answer import Finding, Step
from harness.results.answer_lines import speed
from harness.results.text import code, escaped, number
from harness.verdict import words
from harness.verdict.model import Verdict
from harness.verdict.statistics import Answer

_MARKS = {"slower": "🔴", "faster": "🟢", "failed": "⚠️"}
_SIGNED = {Answer.SLOWER: "slower", Answer.FASTER: "faster"}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What both versions of a step, in turns, say of a reader on a pattern."""

    before: str
    after: str
    reader: str
    pattern: str
    workload: str
    answer: Answer
    said: str
    """As in ``28.1 % slower [+25.0 %, +31.3 %]``."""
    error: str | None = None
    """Why there is no answer, where it failed."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that a watch says."""

    schema: int = 1
    branch: str
    place: str
    """Target, preset and machine."""
    commits: list[Commit]
    """That change the package, oldest first: the first is where the last report ended, the others are new."""
    left_out: int
    """New commits that change the package and were not to be measured."""
    steps: list[Step]
    """From each measured commit to the next."""
    checks: list[Check]
    failed: list[str]
    """Commits that could not be measured, each with the reason."""
    notices: list[str]
    """Where the machine drifted between two commits."""

    @property
    def failures(self) -> list[str]:
        """What failed: commits, rows that did not fail before, and checks."""
        rows = [f"{f.reader}, {f.pattern} {f.workload}: {f.error}" for step in self.steps for f in step.of("failed")]
        checks = [f"{one.before} and {one.after} in turns: {one.error}" for one in self.checks if one.error]
        return [*self.failed, *rows, *dict.fromkeys(checks)]

    def found(self, kind: Literal["slower", "faster"]) -> list[tuple[Step, Finding]]:
        """Return what got slower or faster for sure, and was not refuted by taking turns."""
        pairs = [(step, finding) for step in self.steps for finding in step.of(kind)]
        return [(step, finding) for step, finding in pairs if self.verdict_on(step, finding) is not False]

    def verdict_on(self, step: Step, finding: Finding) -> bool | None:
        """Whether taking turns confirmed a finding: on its workload, else on any of its pattern; None: no answer."""
        checks = [check for check in self.checks_of(step, finding) if check.error is None]
        if not checks:
            return None
        return any(_SIGNED.get(check.answer) == finding.kind for check in checks)

    def checks_of(self, step: Step, finding: Finding) -> list[Check]:
        """Return the checks of a finding's workload, else those of its pattern."""
        of_pattern = [
            check
            for check in self.checks
            if (check.before, check.after) == (step.before, step.after)
            and (check.reader, check.pattern) == (finding.reader, finding.pattern)
        ]
        return [check for check in of_pattern if check.workload == finding.workload] or of_pattern


def checks(step: Step, verdict: Verdict) -> list[Check]:
    """Return what a verdict says of a step."""
    return [
        Check(
            before=step.before,
            after=step.after,
            reader=finding.reader,
            pattern=finding.pattern,
            workload=finding.workload.partition(" ")[2],
            answer=finding.answer,
            said=f"{words.answer_of(finding, verdict.smallest_effect)} {words.bounds(finding)}".rstrip(),
            error=finding.error,
        )
        for finding in verdict.findings
    ]


def unchecked(step: Step, reason: str) -> list[Check]:
    """Return the checks of a step's findings that could not be made, and why."""
    return [
        Check(
            before=step.before,
            after=step.after,
            reader=finding.reader,
            pattern=finding.pattern,
            workload=finding.workload,
            answer=Answer.UNKNOWN,
            said="not measured",
            error=reason,
        )
        for finding in step.differences
    ]


def headline(report: Report) -> str:
    """Return the report in a line."""
    new = len(report.commits) - 1
    if not new and not report.failures:
        return f"nothing new on {report.branch} changes the package since {report.commits[0].commit[:9]}"
    parts = [f"{len(report.failures)} failed"] if report.failures else []
    for kind in ("slower", "faster"):
        found = report.found(kind)
        if found:
            step, first = max(found, key=lambda pair: pair[1].size)
            upto = f"{len(found)} {kind}, most: " if len(found) > 1 else ""
            parts.append(f"{upto}{step.before} -> {step.after} {speed(first)}, {first.reader}, {_workload(first)}")
    measured = f"{new} new commit{'' if new == 1 else 's'} of {report.branch}"
    return f"{measured}: {'; '.join(parts) or 'nothing got slower or faster for sure'}"


def markdown(report: Report) -> str:
    """Return the report as a page for people; what comes from outside is escaped."""
    lines = [f"**{_mark(report)} {escaped(headline(report))}**", ""]
    lines += [f"- ⚠️ {escaped(failure)}" for failure in report.failures]
    lines += [f"- {escaped(notice)}" for notice in report.notices]
    if report.left_out:
        lines.append(f"- {report.left_out} new commits in between were not measured: `--max` allows more.")
    lines += ["", "| commit | date | subject |", "|---|---|---|"]
    lines += [f"| `{one.commit[:9]}` | {escaped(one.date[:10])} | {escaped(one.subject)} |" for one in report.commits]
    changed = [(step, f) for step in report.steps for f in step.findings if f.kind in ("slower", "faster")]
    if changed:
        lines += [
            "",
            "| | step | reader | workload | before, ms | after, ms | change | sessions | requests | in turns |",
            "|---|---|---|---|--:|--:|---|--:|--:|---|",
            *(_row(report, step, finding) for step, finding in changed),
        ]
    lines += _undecided(report.steps)
    lines += ["", f"Read from {escaped(report.place)}. Intervals cover 95 %: of sessions, or a single one's samples."]
    return "\n".join(lines)


def _mark(report: Report) -> str:
    if report.found("slower"):
        return _MARKS["slower"]
    if report.failures:
        return _MARKS["failed"]
    return _MARKS["faster"] if report.found("faster") else "⚪"


def _row(report: Report, step: Step, finding: Finding) -> str:
    before, after = finding.seconds or (None, None)
    refuted = report.verdict_on(step, finding) is False
    cells = (
        "❔" if refuted else _MARKS[finding.kind],
        f"{step.before} → {step.after}",
        finding.reader,
        _workload(finding),
        words.milliseconds(before),
        words.milliseconds(after),
        speed(finding),
        _both(finding.processes),
        _both(finding.requests),
        "; ".join(_in_turns(finding, check) for check in report.checks_of(step, finding)) or "not asked",
    )
    return f"| {' | '.join(map(escaped, cells))} |"


def _in_turns(finding: Finding, check: Check) -> str:
    where = "" if check.workload == finding.workload else f" ({check.workload})"
    return f"{check.said}{where}"


def _both(values: Sequence[float | None]) -> str:
    """Return a count before and after, once where they agree."""
    shown = ["-" if value is None else number(value) for value in values]
    return " → ".join(dict.fromkeys(shown))


def _workload(finding: Finding) -> str:
    return f"{finding.pattern.replace('_', ' ')} {finding.workload}"


def _undecided(steps: Sequence[Step]) -> Iterator[str]:
    """Yield what is undecided in each step, and what would decide it."""
    for step in steps:
        count, title = len(step.of("undecided")), f"{escaped(step.before)} → {escaped(step.after)}"
        if count:
            decided = f"; what differs most is decided by `{code(step.command)}`" if step.command else ""
            yield from ("", f"Undecided, {title}: {count} of {len(step.findings)}{decided}")
