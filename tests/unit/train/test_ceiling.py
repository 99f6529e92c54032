"""The ceiling of a training loop: computed from the store's parameters, and held against a loop that really waits."""

import time
from statistics import median

import msgspec
import numpy as np
import pytest

from harness.store.state import Profile
from harness.train.batches import Ahead
from harness.train.ceiling import ceiling
from harness.train.loop import feed, pause
from tests.unit.train.test_loop import CROP, listed

S3 = Profile(name="s3", first_byte_ms=20)
TAIL = msgspec.structs.replace(S3, first_byte_p99_ms=100)


def training(index="cold", ahead=4, at_once=16, batch=4, batches=24, **fields):
    made, _ = listed(batches=batches, batch=batch, ahead=ahead, at_once=at_once)
    (work,) = made.workloads
    work = msgspec.structs.replace(work, **({"in_flight": 100} | fields))
    return msgspec.structs.replace(made, workloads=(work,), index=index)


def test_samples_at_once_wait_for_an_index_and_then_for_data():
    assert ceiling(training(), S3) == pytest.approx(16 / 0.040)


def test_a_warm_index_leaves_one_wait():
    assert ceiling(training(index="warm"), S3) == pytest.approx(16 / 0.020)


def test_no_more_is_under_way_than_batches_ahead_allow():
    assert ceiling(training(ahead=0), S3) == pytest.approx(4 / 0.040)
    assert ceiling(training(ahead=1), S3) == pytest.approx(8 / 0.040)


def test_samples_share_the_requests_in_flight():
    assert ceiling(training(in_flight=4), S3) == pytest.approx(4 / 0.040, rel=1e-6)
    crossing = ((0, 1, 1), (2, 6, 1), (2, 6, 1))  # four shards each
    reads = (crossing,) * 96
    assert ceiling(training(in_flight=40, reads=reads), S3) == pytest.approx(40 / 4 / 0.040, rel=1e-6)


def test_the_link_carries_the_bytes_of_each_sample():
    slow = msgspec.structs.replace(S3, link_gbit_s=0.008)
    assert ceiling(training(wanted_bytes=96_000), slow) == pytest.approx(16 / 0.040)
    assert ceiling(training(wanted_bytes=960_000), slow) == pytest.approx(1e6 / 10_000, rel=0.05)


def test_a_shard_fetched_whole_is_one_wait_and_more_bytes():
    connections = msgspec.structs.replace(S3, connection_mb_s=90)
    made = training(object_bytes=1_200_000)
    assert ceiling(made, connections) == pytest.approx(16 / (0.020 + 1_200_000 / 90e6))
    assert ceiling(made, msgspec.structs.replace(connections, link_gbit_s=2)) == pytest.approx(16 / 0.040)


def test_one_sample_after_another_waits_for_the_mean_of_the_tail():
    one_by_one = training(ahead=0, at_once=1, batch=1, batches=200)
    mean = 0.020 * np.exp(0.5 * (np.log(5) / 2.3263) ** 2)
    assert ceiling(one_by_one, TAIL) == pytest.approx(1 / (2 * mean), rel=0.03)


def test_in_order_a_tail_costs_more_than_its_mean():
    mean = np.exp(0.5 * (np.log(5) / 2.3263) ** 2)
    assert ceiling(training(), TAIL) < 0.8 * ceiling(training(), S3) / mean


def test_nothing_limited_has_no_ceiling():
    assert ceiling(training(), Profile(name="loopback")) is None


class Waiting(Ahead):
    """Crops that come after two waits."""

    def _crop(self, dataset, number):
        time.sleep(0.040)
        return np.zeros(CROP, "uint16")


def _rate(made):
    """Return samples per second of a loop that really waits."""
    arm = Waiting()
    arm.open(made)
    try:
        looped, _ = feed(arm.epoch(0), pause(0.0), arm.lead)
    finally:
        arm.close()
    return len(looped.waits) * made.batch / looped.seconds


@pytest.mark.parametrize("ahead", [0, 4])
def test_a_loop_that_waits_comes_close_and_not_above(ahead):
    made = training(ahead=ahead)
    # Where the loop itself begins late, what was under way meanwhile counts for it: so not one loop, but five.
    rate = median(_rate(made) for _ in range(5))
    assert 0.5 < rate / ceiling(made, S3) < 1.02
