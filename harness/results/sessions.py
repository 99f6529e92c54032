"""Samples by session: the fresh process of a reader that took them, which is the unit of repetition."""

import statistics
from collections.abc import Iterable, Sequence

from harness.results.metrics import METRICS, TIMES_SLOWER, quotient
from harness.results.sample import FLAG_IN_FLIGHT, Sample


def by_session(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Return the samples of each session, in the order of their first one; older records have one."""
    grouped: dict[int | None, list[Sample]] = {}
    for sample in samples:
        grouped.setdefault(sample.session, []).append(sample)
    return list(grouped.values())


def exceeds(samples: Sequence[Sample], in_flight: int) -> bool:
    """Whether most samples had more requests in flight than they were asked for, by so much that they are flagged."""
    beyond = [s for s in samples if FLAG_IN_FLIGHT in s.flags and (s.max_in_flight or 0) > in_flight]
    return 2 * len(beyond) > len(samples)


def summary(key: str, samples: Sequence[Sample], reads: int) -> float | None:
    """Return a metric of one session: the median over its samples; None where it is unknown of any.

    Parameters
    ----------
    key
        The metric's.
    samples
        Of one session, at least one.
    reads
        Selections that the workload consists of.
    """
    if key == TIMES_SLOWER:
        return quotient(_median(s.seconds for s in samples), _median(s.limit_seconds for s in samples))
    return _median(METRICS[key].of(sample, reads) for sample in samples)


def _median(values: Iterable[float | None]) -> float | None:
    found = list(values)
    known = [value for value in found if value is not None]
    return statistics.median(known) if len(known) == len(found) else None
