"""Requests in flight over a loop's time: means of equal parts, of what lies inside the loop."""

import pytest

from harness.store.control import LoggedRequest
from harness.train.in_flight import PARTS, in_flight

BEGAN = 5_000_000_000_000


def request(begin, end):
    return LoggedRequest(
        method="GET",
        bucket="b",
        key="k",
        range=(0, 1),
        kind="get_data",
        status=206,
        bytes=1,
        connection=1,
        received_ns=BEGAN + round(begin * 1e9),
        first_byte_ns=BEGAN + round(begin * 1e9),
        last_byte_ns=BEGAN + round(end * 1e9),
    )


def test_each_part_has_the_mean_of_what_was_under_way_in_it():
    values = in_flight([request(0, 1), request(0.5, 1), request(0.5, 0.75)], BEGAN, 1.0)
    assert len(values) == PARTS
    assert values[: PARTS // 2] == pytest.approx([1.0] * (PARTS // 2))
    assert values[PARTS // 2 : 3 * PARTS // 4] == pytest.approx([3.0] * (PARTS // 4))
    assert values[3 * PARTS // 4 :] == pytest.approx([2.0] * (PARTS // 4))


def test_what_is_before_or_after_the_loop_is_left_out():
    values = in_flight([request(-2, -1), request(-1, 0.5), request(3, 4)], BEGAN, 1.0)
    assert sum(values) / PARTS == pytest.approx(0.5, abs=0.001)
    assert values[-1] == 0


def test_a_loop_that_asked_for_nothing_has_none_in_flight():
    assert in_flight([], BEGAN, 1.0) == [0.0] * PARTS
