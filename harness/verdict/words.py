"""A verdict in words: the first line of a comment, and the cells of every table."""

import math
import shlex
from collections.abc import Collection, Sequence

from harness.errors import WRONG_DATA
from harness.readers.base import GLOBAL_LOCK
from harness.readers.zarr_python import BOUND
from harness.results.intervals import Interval
from harness.verdict.model import Finding, Verdict
from harness.verdict.statistics import LOOKS, PAIRS_PER_BLOCK, Answer, confidence_of_a_look, likely_look

_TWICE = 1.5
"""From here on "2.4x" reads better than a percentage."""
_FOUR_DIGITS = 1e4
_ARROW, _NOTHING = "→", "-"
_MARGIN = 1.1
"""How much more time than so many blocks took is asked for: the last must not come a moment too late."""
_ROUND_SECONDS = 10
_BYTES_DIFFER = 1.1
"""From here on the headline tells of more bytes, and of fewer."""


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
    parts += _changed_bytes(answered)
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


def _changed_bytes(findings: Sequence[Finding]) -> list[str]:
    """Return how many times base's bytes head fetches, where that is many more or far fewer."""
    counted = [count for f in findings if (count := f.counts.get("fetched_bytes")) and count.base and count.head]
    ratios = [count.head / count.base for count in counted if count.base and count.head]
    said = []
    for found, strongest, direction in (
        ([ratio for ratio in ratios if ratio > _BYTES_DIFFER], max, "up to "),
        ([ratio for ratio in ratios if ratio < 1 / _BYTES_DIFFER], min, "down to "),
    ):
        if found:
            size = f"{direction if len(found) > 1 else ''}{strongest(found):.3g}"
            said.append(f"fetches {size} times the bytes in {_of(found)}")
    return said


def cautions(verdict: Verdict) -> list[str]:
    """Say what times must not be taken for, and which of them will stay open; none where nothing has to be said.

    A zarr may be unable to bound requests in flight, and a Python without a global lock may have it all the same.
    """
    records = {"base": verdict.base, "head": verdict.head}
    said = [_unbounded(side, verdict) for side, record in records.items() if not record.bounded]
    for side in records:
        locked = [f.reader for f in verdict.findings if f.versions.get(side, {}).get(GLOBAL_LOCK) == "on"]
        if locked:
            names = ", ".join(dict.fromkeys(locked))
            said.append(f"{side}'s Python has no global lock, but a library of {names} asked for it, and it was on.")
    if hopeless := [f.name for f in _open(verdict) if _blocks_to_settle(f, verdict) is None]:
        said.append(
            f"{LOOKS[-1]} blocks, the most that are taken, are unlikely to settle {'; '.join(hopeless)}: "
            "a quieter machine or a larger --smallest may."
        )
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

    It is the same comparison with as many seconds as the blocks take that an answer is likely to need.
    """
    needed = [(f, blocks) for f in _open(verdict) if (blocks := _blocks_to_settle(f, verdict)) is not None]
    if not needed:
        return None
    kept = _without(shlex.split(verdict.command), {"--readers", "--patterns", "--seconds"})
    readers, patterns = (
        ",".join(dict.fromkeys(names)) for names in ([f.reader for f, _ in needed], [f.pattern for f, _ in needed])
    )
    seconds = _MARGIN * max(_seconds_of_a_block(f) * blocks for f, blocks in needed)
    rounded = _ROUND_SECONDS * math.ceil(seconds / _ROUND_SECONDS)
    return shlex.join([*kept, "--readers", readers, "--patterns", patterns, "--seconds", str(rounded)])


def _open(verdict: Verdict) -> list[Finding]:
    """Return the findings that a larger budget would have given more blocks."""
    return [f for f in verdict.findings if f.answer is Answer.UNKNOWN and f.why and len(f.blocks()) < LOOKS[-1]]


def _blocks_to_settle(finding: Finding, verdict: Verdict) -> int | None:
    """Return how many blocks are likely to answer; None where the most that are taken are not."""
    if finding.ratio is None or finding.low is None or finding.high is None or not finding.looked_at:
        return LOOKS[0]
    found = Interval(
        median=finding.ratio,
        low=finding.low,
        high=finding.high,
        coverage=finding.confidence or confidence_of_a_look(),
        count=finding.looked_at,
    )
    return likely_look(found, verdict.comparisons, smallest=verdict.smallest_effect)


def _seconds_of_a_block(finding: Finding) -> float:
    return (finding.budget_seconds or 0.0) * PAIRS_PER_BLOCK / max(1, len(finding.pairs))


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


def _of(findings: Sequence[object]) -> str:
    return f"{len(findings)} workload{'s' if len(findings) > 1 else ''}"
