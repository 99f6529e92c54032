"""Times slower than the network limit: the headline figure of a row, or why it has none; and than another reader.

A reader's median over the limit's of the same rounds, with a bootstrap interval over processes and rounds. It says
nothing of a reader that had more requests in flight than the limit, and one below 1 stands there only with its reason.
"""

import statistics
from collections.abc import Callable, Sequence

import msgspec

from harness.results.bootstrap import ratio_of_medians
from harness.results.intervals import Interval
from harness.results.sample import Sample
from harness.results.sessions import by_session, exceeds

_FEWER_BYTES = 0.98
"""What is fetched less than this part of the limit's bytes is a reason to be faster."""


class Slower(msgspec.Struct, frozen=True, kw_only=True):
    """How many times slower than the network limit a row is."""

    interval: Interval | None = None
    """None where that is unknown, or would say nothing."""
    note: str = ""
    """Why there is none, or why it is below 1; empty where neither has to be said."""
    brief: str = ""
    """The note in two words, for a picture."""


def slower(samples: Sequence[Sample], in_flight: int) -> Slower:
    """Return how many times slower than the network limit a row is.

    Parameters
    ----------
    samples
        Of one reader and workload.
    in_flight
        Requests in flight that it was asked for, as the limit was.
    """
    if exceeds(samples, in_flight):
        most = statistics.median(sample.max_in_flight or 0 for sample in samples)
        note = f"no ratio to the limit: {most:.0f} requests in flight, and {in_flight} were asked for"
        return Slower(note=note, brief="more in flight than asked")
    found = ratio_of_medians(
        [[(s.seconds, s.limit_seconds) for s in of if s.limit_seconds is not None] for of in by_session(samples)]
    )
    if found is None or found.median >= 1:
        return Slower(interval=found)
    reason, brief = _why_faster(samples, found)
    if not reason:
        note = "no ratio to the limit: it was slower than the reader, and the counts do not say why"
        return Slower(note=note, brief="limit slower")
    return Slower(interval=found, note=f"faster than the limit: {reason}", brief=brief)


def same_rounds(samples: Sequence[Sample], below: Sequence[Sample]) -> Interval | None:
    """Return the ratio of seconds over another reader's in the rounds that both have, with its interval."""
    partner = {(of.session, of.round_number): of.seconds for of in below}
    rounds = [
        [(of.seconds, other) for of in one if (other := partner.get((of.session, of.round_number))) is not None]
        for one in by_session(samples)
    ]
    return ratio_of_medians(rounds)


def _why_faster(samples: Sequence[Sample], found: Interval) -> tuple[str, str]:
    """Return the reason, and that in two words; both are empty where nothing that was counted tells one."""
    own, limit = (_median(samples, of) for of in (lambda s: s.requests, lambda s: s.limit_requests))
    if own is not None and limit is not None and own < limit:
        return f"it sent fewer requests ({own:.0f}, the limit {limit:.0f})", "fewer requests"
    own, limit = (_median(samples, of) for of in (lambda s: s.fetched_bytes, lambda s: s.limit_fetched_bytes))
    if own is not None and limit is not None and own < _FEWER_BYTES * limit:
        return f"it fetched less ({own / 2**20:.1f} MiB, the limit {limit / 2**20:.1f})", "fewer bytes"
    if not found.sure:
        return f"{found.count} value{'' if found.count == 1 else 's'} are too few to tell them apart", "too few"
    return ("1 lies within the interval", "level") if found.high >= 1 else ("", "")


def _median(samples: Sequence[Sample], of: Callable[[Sample], int | None]) -> float | None:
    known = [value for sample in samples if (value := of(sample)) is not None]
    return statistics.median(known) if known else None
