"""How many requests a reader had under way, by the store's log."""

import itertools
from collections import Counter
from collections.abc import Sequence

from harness.store.control import LoggedRequest


def keep_to(requests: Sequence[LoggedRequest], most: int) -> bool:
    """Whether so many were under way at once, and more for less than a tenth of the time of that.

    The store notes a last byte when its write returns. Where its thread has to wait for a core just then, the reader
    may have sent its next request before, and both seem to be under way for a moment.
    """
    began = [(request.received_ns, 1) for request in requests]
    ended = [(request.last_byte_ns, -1) for request in requests if request.last_byte_ns is not None]
    assert len(ended) == len(began), "a request that was not answered has no end"
    events = sorted(began + ended)
    under_way = itertools.accumulate(step for _, step in events)
    lasted: Counter[int] = Counter()
    for number, (begin, _), (end, _) in zip(under_way, events, events[1:], strict=False):
        lasted[number] += end - begin
    return sum(ns for number, ns in lasted.items() if number > most) < lasted[most] / 10
