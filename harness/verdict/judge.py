"""The judge: takes pairs until the answer is clear or the budget is spent, workload by workload."""

import contextlib
import itertools
import logging
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from harness.errors import UnsupportedError, ZcbError
from harness.timeline.model import Timeline
from harness.verdict.model import Finding, PlanChange, counts
from harness.verdict.pairs import Pair, PairedRuns
from harness.verdict.sides import Side
from harness.verdict.statistics import (
    LOOKS,
    PAIRS_PER_BLOCK,
    SMALLEST_EFFECT,
    Answer,
    judge_blocks,
    last_look,
    next_look,
)
from harness.workload.model import Workload

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When to stop, and what to say."""

    comparisons: int
    """In this verdict: each takes its share of the error rate."""
    seconds: float
    """Budget of one workload and reader."""
    smallest: float = SMALLEST_EFFECT


def judge(finding: Finding, pairs: Iterator[Pair], rules: Rules, clock: Callable[[], float] = time.monotonic) -> None:
    """Take pairs into `finding` and look after the agreed numbers of whole blocks, until the answer is clear.

    Looking anywhere else would spend error rate that was not set aside, so a budget that ends between two looks is
    answered by the last one, however many pairs came after it.
    """
    begin = clock()
    for pair in pairs:
        finding.pairs.append(pair)
        blocks, rest = divmod(len(finding.pairs), PAIRS_PER_BLOCK)
        if rest == 0 and blocks in LOOKS:
            look(finding, rules)
            if finding.answer is not Answer.UNKNOWN:
                return
        if next_look(blocks) is None:
            finding.why = f"{blocks} blocks, the most that are taken, leave it open"
            return
        if clock() - begin >= rules.seconds:
            finding.why = _left_open(blocks, rules.seconds)
            return


def _left_open(blocks: int, seconds: float) -> str:
    if blocks < LOOKS[0]:
        return (
            f"an answer needs {LOOKS[0]} blocks; {blocks} {'was' if blocks == 1 else 'were'} taken in {seconds:.0f} s"
        )
    return f"{last_look(blocks)} blocks in {seconds:.0f} s leave it open"


def look(finding: Finding, rules: Rules) -> None:
    """Compute interval and answer from the blocks so far."""
    said = judge_blocks(finding.blocks(), rules.comparisons, smallest=rules.smallest)
    finding.answer = said.answer
    if said.interval is not None:
        finding.ratio, finding.low, finding.high = said.interval.median, said.interval.low, said.interval.high
        finding.confidence = said.interval.coverage


def empty(reader: str, workload: Workload) -> Finding:
    """Return the finding of one reader and one workload before anything is measured."""
    return Finding(
        reader=reader,
        pattern=workload.pattern,
        workload=workload.label,
        digest=workload.digest,
        array_bytes=workload.array_bytes,
    )


def compare(finding: Finding, workload: Workload, sides: Mapping[str, Side], rules: Rules, *, seed: int) -> None:
    """Measure and judge one reader and one workload into `finding`, which holds what there is when interrupted."""
    begin = time.monotonic()
    finding.budget_seconds = rules.seconds
    try:
        with _kept_failures(finding), PairedRuns(finding.reader, workload, sides, seed) as runs:
            finding.plan = _plan_change(runs)
            finding.versions = runs.versions
            judge(finding, _reported(runs.pairs(), finding), rules)
            finding.timelines = _timelines(runs)
    finally:
        finding.seconds = time.monotonic() - begin
        _summarise(finding)


@contextlib.contextmanager
def _kept_failures(finding: Finding) -> Iterator[None]:
    """Let a failure of one side end this finding only, and take back whatever it said."""
    try:
        yield
    except UnsupportedError as reason:
        finding.na = str(reason)
    except ZcbError as error:
        finding.error = str(error)
    if finding.error is not None or finding.na is not None:
        finding.answer = Answer.UNKNOWN
        finding.ratio = finding.low = finding.high = finding.confidence = None


def _summarise(finding: Finding) -> None:
    if finding.pairs and finding.error is None:
        finding.base_seconds = statistics.median(pair.base.seconds for pair in finding.pairs)
        finding.head_seconds = statistics.median(pair.head.seconds for pair in finding.pairs)
        finding.counts = counts(finding.pairs)


def _plan_change(runs: PairedRuns) -> PlanChange | None:
    plans = [runs.plan_of(side) for side in ("base", "head")]
    if plans[0] is None or plans[1] is None:
        return None
    base, head = (Counter(plan.requests) for plan in plans if plan is not None)
    return PlanChange(same=base == head, only_base=(base - head).total(), only_head=(head - base).total())


def _timelines(runs: PairedRuns) -> dict[str, Timeline]:
    """Return one recorded execution of each side, or none: one alone compares nothing."""
    found = {side: runs.timeline_of(side) for side in ("base", "head")}
    known = {side: timeline for side, timeline in found.items() if timeline is not None}
    return known if len(known) == len(found) else {}


def _reported(pairs: Iterator[Pair], finding: Finding) -> Iterator[Pair]:
    for number in itertools.count(1):
        yield next(pairs)
        blocks, rest = divmod(number, PAIRS_PER_BLOCK)
        if rest == 0 and blocks in LOOKS and finding.ratio is not None:
            _log.info(f"{finding.name}: {blocks} blocks, {finding.ratio:.3f} [{finding.low:.3f}, {finding.high:.3f}]")
