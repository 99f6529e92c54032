"""A verdict in words: the first line of a comment, and the cells of every table."""

import shlex
from collections.abc import Collection, Sequence

from harness.errors import WRONG_DATA
from harness.readers.base import GLOBAL_LOCK
from harness.readers.zarr_python import BOUND
from harness.verdict.model import Finding, Verdict
from harness.verdict.statistics import LOOKS, Answer

_TWICE = 1.5
"""From here on "2.4x" reads better than a percentage."""
_FOUR_DIGITS = 1e4
_ARROW, _NOTHING = "→", "-"
_QUICK = "--quick"
_LONGER = 4


def speed(ratio: float) -> str:
    """Return how much faster or slower head is, from head's seconds over base's: ``2.38x faster``, ``4 % slower``."""
    if ratio <= 1:
        factor = 1 / ratio
        return f"{factor:.2f}x faster" if factor >= _TWICE else f"{100 * (1 - ratio):.1f} % faster"
    return f"{ratio:.2f}x slower" if ratio >= _TWICE else f"{100 * (ratio - 1):.1f} % slower"


def bounds(finding: Finding) -> str:
    """Return the interval in the unit that `speed` takes for the estimate, smaller effect first."""
    if finding.ratio is None or finding.low is None or finding.high is None:
        return ""
    low, high = finding.low, finding.high
    if finding.ratio <= 1 / _TWICE:
        return f"[{1 / high:.2f}, {1 / low:.2f}]"
    if finding.ratio >= _TWICE:
        return f"[{low:.2f}, {high:.2f}]"
    return f"[{100 * (low - 1):+.1f} %, {100 * (high - 1):+.1f} %]"


def answer_of(finding: Finding, smallest: float) -> str:
    """Return a finding's answer with its size: ``2.38x faster``, ``no difference larger than 3 %``."""
    if finding.na is not None:
        return "n/a"
    if finding.error is not None:
        return WRONG_DATA if finding.is_wrong else "not measured"
    if finding.answer is Answer.SAME:
        return f"no difference larger than {100 * smallest:g} %"
    if finding.answer is Answer.UNKNOWN or finding.ratio is None:
        return "not enough data"
    return speed(finding.ratio)


def count_change(finding: Finding, name: str) -> str:
    """Return ``10 → 2`` where a count differs, the count where it does not, a dash where it is unknown."""
    count = finding.counts.get(name)
    if count is None or (count.base is None and count.head is None):
        return _NOTHING
    base, head = (("varies" if value is None else f"{value:,}") for value in (count.base, count.head))
    return base if base == head else f"{base} {_ARROW} {head}"


def milliseconds(seconds: float | None) -> str:
    """Return a time with four digits, without a unit; a dash where it is unknown."""
    if seconds is None:
        return "-"
    value = seconds * 1e3
    return f"{value:.4g}" if value < _FOUR_DIGITS else f"{value:.0f}"


def request_changes(findings: Sequence[Finding]) -> str:
    """Return what the counts of requests say: ``5 → 2 requests; requests unchanged: 17``."""
    shown = list(dict.fromkeys(count_change(finding, "requests") for finding in findings))
    changed = [one for one in shown if _ARROW in one]
    same = [one for one in shown if _ARROW not in one and one != _NOTHING]
    parts = [f"{', '.join(changed)} requests"] if changed else []
    parts += [f"requests unchanged: {', '.join(same)}"] if same else []
    return "; ".join(parts) or "requests not counted"


def headline(verdict: Verdict) -> str:
    """Return the verdict in one line: wrong data, what is faster or slower by how much, what changed in requests."""
    answered = [f for f in verdict.findings if f.na is None and f.error is None]
    wrong = [f for f in verdict.findings if f.is_wrong]
    groups = {answer: [f for f in answered if f.answer is answer] for answer in Answer}
    parts = [f"{WRONG_DATA} in {_of(wrong)}" if wrong else ""]
    parts += [_extremes(groups[Answer.SLOWER]), _extremes(groups[Answer.FASTER])]
    for answer, said in {
        Answer.SAME: f"no difference larger than {100 * verdict.smallest_effect:g} %",
        Answer.UNKNOWN: "not enough data",
    }.items():
        if found := groups[answer]:
            parts.append(f"{said} in {_of(found)} ({request_changes(found)})")
    failed = len(verdict.failures) - len(wrong)
    if failed:
        parts.append(f"{failed} not measured")
    if not verdict.complete:
        parts.append(f"interrupted after {len(answered)} of {verdict.comparisons} comparisons")
    return "; ".join(filter(None, parts)) or "nothing was measured"


def what_intervals_hold(verdict: Verdict) -> str:
    """Say how often intervals miss; empty where none is shown."""
    if not any(bounds(finding) for finding in verdict.findings):
        return ""
    rate = f"{verdict.error_rate:.0%}"
    return (
        f"The intervals of faster and slower hold together in all but {rate} of verdicts, any other by itself in all "
        f"but {rate}."
    )


def cautions(verdict: Verdict) -> list[str]:
    """Say of each side what its times must not be taken for; none where nothing has to be said.

    A zarr may be unable to bound requests in flight, and a Python without a global lock may have it all the same.
    """
    records = {"base": verdict.base, "head": verdict.head}
    said = [_unbounded(side, verdict) for side, record in records.items() if not record.bounded]
    for side in records:
        locked = [f.reader for f in verdict.findings if f.versions.get(side, {}).get(GLOBAL_LOCK) == "on"]
        if locked:
            names = ", ".join(dict.fromkeys(locked))
            said.append(f"{side}'s Python has no global lock, but a library of {names} asked for it, and it was on.")
    return said


def _unbounded(side: str, verdict: Verdict) -> str:
    most = {of: max((f.most_in_flight(of) or 0 for f in verdict.findings), default=0) for of in ("base", "head")}
    seen = f"at most {most['base']} were seen on base's side, {most['head']} on head's"
    return (
        f"{side}'s zarr has no setting {BOUND}: its requests in flight are bounded by the store's library alone "
        f"({seen if any(most.values()) else 'nobody counted them'}). Times compare what each does by itself."
    )


def settling(verdict: Verdict) -> str | None:
    """Return the command that is likely to settle what the times left open; None where it would be of no use.

    A quick comparison is repeated with the usual budget, any other with four times its own, which halves an interval.
    """
    left = [f for f in verdict.findings if f.answer is Answer.UNKNOWN and f.why and len(f.blocks()) < LOOKS[-1]]
    if not left:
        return None
    words = shlex.split(verdict.command)
    kept = _without(words, {"--readers", "--patterns", "--seconds"})
    readers, patterns = (
        ",".join(dict.fromkeys(names)) for names in ([f.reader for f in left], [f.pattern for f in left])
    )
    longest = max(f.budget_seconds or 0.0 for f in left)
    more = [] if _QUICK in kept else ["--seconds", f"{_LONGER * longest:.0f}"]
    command = [word for word in kept if word != _QUICK]
    return shlex.join([*command, "--readers", readers, "--patterns", patterns, *more])


def _without(words: Sequence[str], options: Collection[str]) -> list[str]:
    """Return a command's words without some options and their values, however they are joined."""
    kept: list[str] = []
    skipped = False
    for word in words:
        if skipped:
            skipped = False
        elif word in options:
            skipped = True
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return kept


def _extremes(findings: list[Finding]) -> str:
    if not findings:
        return ""
    strongest = max(findings, key=lambda f: abs(_log(f)))
    size = f"{speed(strongest.ratio or 1.0)} {bounds(strongest)}".strip()
    if len(findings) == 1:
        return f"{size} in {strongest.name}, {request_changes(findings)}"
    return f"up to {size} in {_of(findings)} (most: {strongest.name}, {request_changes([strongest])})"


def _log(finding: Finding) -> float:
    ratio = finding.ratio or 1.0
    return max(ratio, 1 / ratio)


def _of(findings: list[Finding]) -> str:
    return f"{len(findings)} workload{'s' if len(findings) > 1 else ''}"
