"""Requests under way while a loop ran: what stands below its waits, on the same axis of time."""

from collections.abc import Sequence

import numpy as np

from harness.store.control import LoggedRequest

PARTS = 200
"""Equal parts of the loop's time."""


def in_flight(requests: Sequence[LoggedRequest], began_ns: int, seconds: float) -> list[float]:
    """Return the mean number of requests that the store had under way in each of `PARTS` equal parts of a loop's time.

    Parameters
    ----------
    requests
        Those of the whole epoch: what lies before or after the loop is left out.
    began_ns
        When the loop began, by this machine's monotonic clock.
    seconds
        What it took.
    """
    begins = np.array([one.received_ns - began_ns for one in requests], np.float64) / 1e9
    took = np.array([max(0, one.last_byte_ns - one.received_ns) for one in requests], np.float64) / 1e9
    # what all requests together have been under way until each edge: an edge at a time, not a matrix of all of them
    until = [float(np.clip(edge - begins, 0, took).sum()) for edge in np.linspace(0, seconds, PARTS + 1)]
    return [round(value, 3) for value in (np.diff(until) / (seconds / PARTS)).tolist()]
