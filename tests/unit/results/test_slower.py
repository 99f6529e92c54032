"""Times slower than the network limit: the ratio, when there is none, and the reason below 1."""

import pytest

from harness.results.sample import FLAG_IN_FLIGHT
from harness.results.slower import slower
from tests.support import passes


def samples(seconds, limit=1.0, **fields):
    return [passes.sample(one, limit, 2**20, round_number=place, **fields) for place, one in enumerate(seconds, 1)]


EVEN = [2.0, 2.02, 1.98, 2.04, 1.96, 2.0, 2.0]


def test_it_is_the_median_over_the_limits_and_not_the_median_of_ratios():
    skewed = [passes.sample(t, limit, 8) for t, limit in ((1.0, 1.0), (4.0, 1.0), (6.0, 5.0))]
    assert slower(skewed, 100).interval.median == 4.0
    assert sorted(one.times_slower for one in skewed)[1] == 1.2


def test_an_interval_rests_on_processes():
    taken = [one for session in range(1, 8) for one in samples(EVEN[:3], session=session)]
    found = slower(taken, 100).interval
    assert (found.count, found.processes, found.sure) == (7, 7, True)
    assert found.low <= 2.0 <= found.high


def test_who_had_more_requests_in_flight_has_no_ratio():
    over = samples(EVEN, max_in_flight=64, flags=[FLAG_IN_FLIGHT])
    found = slower(over, 10)
    assert found.interval is None
    assert found.note == "no ratio to the limit: 64 requests in flight, and 10 were asked for"
    assert slower(over, 100).interval is not None  # fewer than asked for is no advantage


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"requests": 128, "limit_requests": 256}, "it sent fewer requests (128, the limit 256)"),
        ({"fetched_bytes": 2**20, "limit_fetched_bytes": 2**21}, "it fetched less (1.0 MiB, the limit 2.0)"),
        ({"requests": 300, "limit_requests": 256, "fetched_bytes": 9, "limit_fetched_bytes": 9}, None),
    ],
)
def test_below_one_stands_with_its_reason_or_not_at_all(fields, reason):
    found = slower(samples([one / 4 for one in EVEN], **fields), 100)
    if reason is None:
        assert found.interval is None
        assert found.note == "no ratio to the limit: it was slower than the reader, and the counts do not say why"
    else:
        assert found.interval.median == 0.5
        assert found.note == f"faster than the limit: {reason}"
        assert found.brief


def test_what_an_interval_does_not_tell_apart_is_said_to_be_level():
    around = [0.9, 1.1, 0.95, 1.05, 0.99, 0.98, 1.02]
    assert slower(samples(around), 100).note == "faster than the limit: 1 lies within the interval"
    assert slower(samples(around[-3:-1]), 100).note == "faster than the limit: 2 values are too few to tell them apart"


def test_without_a_limit_there_is_nothing_to_say():
    found = slower(samples(EVEN, limit=None), 100)
    assert (found.interval, found.note) == (None, "")
    assert slower([], 100).interval is None
