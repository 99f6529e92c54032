"""A verdict as a comment on a pull request: the answer first, the rest folded."""

from harness.results.text import code, escaped
from harness.verdict.model import COUNTED, Finding, Verdict
from harness.verdict.statistics import PAIRS_PER_BLOCK, Answer
from harness.verdict.words import answer_of, bounds, cautions, count_change, headline, milliseconds, settling

_FAILED = "⚠️"
_MARKS = {Answer.FASTER: "🟢", Answer.SLOWER: "🔴", Answer.SAME: "⚪", Answer.UNKNOWN: "❔"}


def markdown(verdict: Verdict) -> str:
    """Return the comment; whatever comes from outside is escaped."""
    lines = [
        f"**{_mark(verdict)} {escaped(headline(verdict))}**",
        "",
        *_paragraph(escaped(verdict.subject or "")),
        f"`{code(verdict.base.label)}` ({escaped(verdict.base.detail)}) against "
        f"`{code(verdict.head.label)}` ({escaped(verdict.head.detail)}), read from {escaped(verdict.target)}.",
        "",
        "| | reader | workload | base, ms | head, ms | verdict | interval | requests |",
        "|---|---|---|--:|--:|---|---|--:|",
        *(_row(finding, verdict.smallest_effect) for finding in verdict.findings),
        "",
        *_paragraph(escaped(" ".join(cautions(verdict)))),
        *_paragraph(f"To settle what is open: `{code(command)}`" if (command := settling(verdict)) else ""),
        *_folded("What the counts say, exactly", _counts(verdict)),
        *_folded("Versions, machine, method", _basis(verdict)),
        *_folded("How to reproduce", ["```sh", code(verdict.command), "```"]),
    ]
    return "\n".join(lines)


def _mark(verdict: Verdict) -> str:
    return _FAILED if any(finding.is_wrong for finding in verdict.findings) else _MARKS[verdict.answer]


def _paragraph(text: str) -> list[str]:
    return [text, ""] if text else []


def _row(finding: Finding, smallest: float) -> str:
    cells = (
        _FAILED if finding.error else _MARKS[finding.answer],
        finding.reader,
        finding.workload,
        milliseconds(finding.base_seconds),
        milliseconds(finding.head_seconds),
        answer_of(finding, smallest),
        bounds(finding),
        count_change(finding, "requests"),
    )
    return f"| {' | '.join(map(escaped, cells))} |"


def _counts(verdict: Verdict) -> list[str]:
    lines = [
        f"| reader, workload | {' | '.join(n.replace('_', ' ') for n in COUNTED)} | byte ranges |",
        "|---" * 6 + "|",
    ]
    for finding in verdict.findings:
        cells = [finding.name, *(count_change(finding, name) for name in COUNTED), _plan(finding)]
        lines.append(f"| {' | '.join(map(escaped, cells))} |")
    return lines


def _plan(finding: Finding) -> str:
    if finding.plan is None:
        return "-"
    if finding.plan.same:
        return "the same"
    return f"{finding.plan.only_base} only in base, {finding.plan.only_head} only in head"


def _basis(verdict: Verdict) -> list[str]:
    lines = [f"- {escaped(verdict.machine)}; {verdict.started}; {verdict.seconds:.0f} s"]
    for side, record in (("base", verdict.base), ("head", verdict.head)):
        readers = {name: version for f in verdict.findings for name, version in f.versions.get(side, {}).items()}
        shown = ", ".join(f"{name} {version}" for name, version in sorted((readers or record.versions).items()))
        lines.append(f"- {side}: {escaped(shown)}")
    lines += [f"- {escaped(reason)}" for reason in verdict.reasons]
    lines.append(
        f"- Blocks of {PAIRS_PER_BLOCK} alternating pairs in random order, each with two new processes; the typical "
        "ratio with an interval over blocks. Faster, slower: it excludes equal speed, corrected for "
        f"{verdict.comparisons} comparisons and every look, so that at most "
        f"{verdict.error_rate:.0%} of verdicts call a difference that is not there. "
        f"No difference: the interval, corrected for every look, lies within {verdict.smallest_effect:.0%}. "
        "A true difference that is a little smaller may be called either."
    )
    return lines


def _folded(title: str, lines: list[str]) -> list[str]:
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>"]
