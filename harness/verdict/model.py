"""What a verdict says: version 1 of the JSON that ``zcb compare --json`` prints and every page is made from."""

from collections.abc import Sequence

import msgspec

from harness.errors import WRONG_DATA, blamed, wrong_data_first
from harness.timeline.model import Timeline
from harness.verdict.pairs import Pair
from harness.verdict.statistics import PAIRS_PER_BLOCK, Answer, last_look

SCHEMA = 1


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that is compared exactly: the same in every execution, or nothing is said of it."""

    base: int | None
    """None where it varied from execution to execution or nobody counts it."""
    head: int | None


class PlanChange(msgspec.Struct, frozen=True, kw_only=True):
    """How the requests of one execution differ, by the store's log: method, key and byte range."""

    same: bool
    only_base: int
    """Requests that only base makes."""
    only_head: int


class Finding(msgspec.Struct, kw_only=True):
    """What is said of one reader and one workload."""

    reader: str
    pattern: str
    workload: str
    """The workload's name, e.g. ``chunks_of_one_shard small gap=1``."""
    digest: str
    array_bytes: int
    answer: Answer = Answer.UNKNOWN
    ratio: float | None = None
    """Head's seconds over base's: the mean of the blocks' medians, of logarithms."""
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    """Of this one interval, so that the verdict as a whole errs at most at its error rate."""
    base_seconds: float | None = None
    """Median."""
    head_seconds: float | None = None
    counts: dict[str, Count] = msgspec.field(default_factory=dict)
    plan: PlanChange | None = None
    versions: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    """Of the reader's libraries, by side."""
    error: str | None = None
    """Why there is no answer: which side failed, and how."""
    na: str | None = None
    """Why the reader cannot do this workload."""
    why: str | None = None
    """Why the pairs do not suffice, where they do not."""
    seconds: float = 0.0
    """What measuring took."""
    budget_seconds: float | None = None
    """What it was allowed to take."""
    pairs: list[Pair] = msgspec.field(default_factory=list)
    timelines: dict[str, Timeline] = msgspec.field(default_factory=dict)
    """One recorded execution of each side after the pairs, where the reader has hooks; it decides nothing."""

    def blocks(self) -> list[list[float]]:
        """Return the log ratios of the pairs of each whole block."""
        grouped: dict[int, list[float]] = {}
        for pair in self.pairs:
            grouped.setdefault(pair.block, []).append(pair.log_ratio)
        return [block for block in grouped.values() if len(block) == PAIRS_PER_BLOCK]

    @property
    def looked_at(self) -> int:
        """How many whole blocks its answer rests on: those that came after the last look have no part in it."""
        return last_look(len(self.blocks()))

    def most_in_flight(self, side: str) -> int | None:
        """Return the most requests that ``base`` or ``head`` had in flight in any sample; None where nobody saw it."""
        seen = [sample.max_in_flight for pair in self.pairs if (sample := getattr(pair, side)).max_in_flight]
        return max(seen, default=None)

    @property
    def name(self) -> str:
        """Reader and workload."""
        return f"{self.reader}, {self.workload}"

    @property
    def is_wrong(self) -> bool:
        """Whether a side returned an array that is not the truth."""
        return self.error is not None and self.error.startswith(WRONG_DATA)

    @property
    def reason(self) -> str | None:
        """Why there is no answer, with reader and workload; None where there is one."""
        return blamed(self.name, reason) if (reason := self.na or self.error or self.why) else None


class SideRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One side, as the report names it."""

    label: str
    detail: str
    versions: dict[str, str]
    bounded: bool = True
    """Whether its zarr has the setting that bounds requests in flight."""


class Verdict(msgspec.Struct, kw_only=True):
    """All findings of one comparison."""

    schema: int = SCHEMA
    base: SideRecord
    head: SideRecord
    target: str
    command: str
    """How to reproduce it."""
    subject: str | None = None
    """What is compared, where that has a name, e.g. ``#3004 Optimize partial shard reads``."""
    started: str
    machine: str
    smallest_effect: float
    error_rate: float
    comparisons: int
    """Planned: readers times workloads."""
    environment: list[str] | None = None
    """Names of what both sides' workers had from outside: variables, and files with credentials; None is not noted."""
    complete: bool = False
    """False until every comparison was carried out: what is there counts, what is missing is unknown."""
    seconds: float = 0.0
    findings: list[Finding] = msgspec.field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        """Why there are no answers, where there are none; wrong data first."""
        return sorted((found for finding in self.findings if (found := finding.reason)), key=wrong_data_first)

    @property
    def failures(self) -> list[str]:
        """What could not be measured, with the reason; wrong data first."""
        return sorted((blamed(f.name, f.error) for f in self.findings if f.error), key=wrong_data_first)

    @property
    def answer(self) -> Answer:
        """The verdict in one word: slower where anything is, since that is what a merge must not bring."""
        answers = {finding.answer for finding in self.findings if finding.na is None}
        for strongest in (Answer.SLOWER, Answer.FASTER, Answer.UNKNOWN):
            if strongest in answers:
                return strongest
        return Answer.SAME if answers and self.complete else Answer.UNKNOWN


COUNTED = ("requests", "index_requests", "head_requests", "fetched_bytes")
"""Fields of a sample that are compared exactly."""


def counts(pairs: Sequence[Pair]) -> dict[str, Count]:
    """Return the exact figures of both sides."""
    return {
        name: Count(base=_only([p.base for p in pairs], name), head=_only([p.head for p in pairs], name))
        for name in COUNTED
    }


def _only(samples: Sequence[object], name: str) -> int | None:
    values = {getattr(sample, name) for sample in samples}
    return values.pop() if len(values) == 1 else None
