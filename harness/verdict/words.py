"""A verdict in words: the first line of a comment, and the cells of every table."""

from harness.verdict.model import Finding, Verdict
from harness.verdict.statistics import Answer

_TWICE = 1.5
"""From here on "2.4x" reads better than a percentage."""


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
        return "not measured"
    if finding.answer is Answer.SAME:
        return f"no difference larger than {100 * smallest:g} %"
    if finding.answer is Answer.UNKNOWN or finding.ratio is None:
        return "not enough data"
    return speed(finding.ratio)


def count_change(finding: Finding, name: str) -> str:
    """Return ``10 → 2`` where a count differs, the count where it does not, a dash where it is unknown."""
    count = finding.counts.get(name)
    if count is None or (count.base is None and count.head is None):
        return "-"
    base, head = (("varies" if value is None else f"{value:,}") for value in (count.base, count.head))
    return base if base == head else f"{base} → {head}"


def headline(verdict: Verdict) -> str:
    """Return the verdict in one line: what is faster or slower by how much, and what changed in requests."""
    answered = [f for f in verdict.findings if f.na is None and f.error is None]
    groups = {answer: [f for f in answered if f.answer is answer] for answer in Answer}
    parts = [_extremes(groups[Answer.SLOWER]), _extremes(groups[Answer.FASTER])]
    if groups[Answer.SAME]:
        parts.append(f"no difference larger than {100 * verdict.smallest_effect:g} % in {_of(groups[Answer.SAME])}")
    if groups[Answer.UNKNOWN]:
        parts.append(f"not enough data in {_of(groups[Answer.UNKNOWN])}")
    failed = sum(f.error is not None for f in verdict.findings)
    if failed:
        parts.append(f"{failed} not measured")
    if not verdict.complete:
        parts.append(f"interrupted after {len(answered)} of {verdict.comparisons} comparisons")
    return "; ".join(filter(None, parts)) or "nothing was measured"


def _extremes(findings: list[Finding]) -> str:
    if not findings:
        return ""
    strongest = max(findings, key=lambda f: abs(_log(f)))
    size = f"{speed(strongest.ratio or 1.0)} {bounds(strongest)}".strip()
    requests = count_change(strongest, "requests")
    changed = f", requests {requests}" if "→" in requests else ""
    if len(findings) == 1:
        return f"{size} in {strongest.name}{changed}"
    return f"up to {size} in {_of(findings)} (most: {strongest.name}{changed})"


def _log(finding: Finding) -> float:
    ratio = finding.ratio or 1.0
    return max(ratio, 1 / ratio)


def _of(findings: list[Finding]) -> str:
    return f"{len(findings)} workload{'s' if len(findings) > 1 else ''}"
