"""The floor: computed from the store's parameters, and never above what a plan could take under them."""

import msgspec
import numpy as np
import pytest

from harness.datasets.shards import index_nbytes
from harness.measure.floor import floor_of, floor_seconds
from harness.store.state import Profile
from harness.targets.target import Target
from tests.unit.measure.test_evidence import workload

S3 = Profile(name="s3", first_byte_ms=20, connection_mb_s=90, link_gbit_s=2)
TAIL = msgspec.structs.replace(S3, name="s3-tail", first_byte_p99_ms=100)
LINK = 2e9 / 8
INDEX = index_nbytes((4,))


def work(**fields):
    return workload(**({"wanted_bytes": 2_500_000, "wanted_shards": 1, "least_bytes": 0} | fields))


def floor(made, profile=S3):
    return floor_seconds(made, profile)


def test_few_chunks_are_two_first_bytes_and_the_link():
    assert floor(work()) == pytest.approx(0.040 + (2_500_000 + INDEX) / LINK)


def test_a_small_shard_whole_is_one_first_byte():
    assert floor(work(object_bytes=1_200_000, wanted_bytes=900_000)) == pytest.approx(0.020 + 1_200_000 / 90e6)
    assert floor(work(object_bytes=300_000_000)) == floor(work())


def test_one_connection_carries_no_more_than_its_rate():
    alone = floor(work(in_flight=1))
    assert alone == pytest.approx(0.040 + (2_500_000 + INDEX) / 90e6)


def test_requests_that_wait_for_a_place_in_flight_wait_in_turn():
    made = work(wanted_shards=128, in_flight=10)
    assert floor(made) == pytest.approx((256 * 0.020 + (2_500_000 + 128 * INDEX) / 90e6) / 10)


def test_reads_in_turn_wait_in_turn():
    made = work(reads=(((0, 4, 1),),) * 64, wanted_shards=8, wanted_bytes=1000)
    assert floor(made) == pytest.approx(64 * 0.040)


def test_later_reads_wait_for_what_is_theirs_alone():
    same = work(reads=(((0, 1, 1),),) * 64, concurrent_reads=16, wanted_shards=8, wanted_bytes=1000)
    assert floor(same) == pytest.approx(0.040, rel=1e-3)  # they may find it under way
    own = tuple(((n, n + 1, 1),) for n in range(1, 34))
    known = msgspec.structs.replace(same, reads=(*own, *same.reads[33:]))
    assert floor(known) == pytest.approx(0.040 + 2 * 0.020, rel=1e-3)


def test_with_a_tail_many_shards_wait_for_the_longest_of_their_waits():
    known = [floor(work(wanted_shards=count, wanted_bytes=1000), TAIL) for count in (1, 16, 64)]
    assert known == sorted(known)
    assert known[0] == pytest.approx(0.044, rel=0.1)  # two log-normal waits: the median of their sum is above 2 x 20 ms
    assert known[2] > 2 * known[0]


@pytest.mark.parametrize("profile", [S3, TAIL])
@pytest.mark.parametrize("shards", [1, 16, 128])
def test_no_schedule_is_faster(profile, shards):
    """A client that takes requests in order, a place in flight each, over a link that carries one after another."""
    made = work(wanted_shards=shards, in_flight=20)
    sigma = np.log((profile.first_byte_p99_ms or 20) / 20) / 2.326
    draw, part, taken = np.random.default_rng(4), made.wanted_bytes / shards, []
    for _ in range(200):
        waits = 0.020 * np.exp(sigma * draw.standard_normal((2, shards)))
        places, link, ready = [0.0] * 20, 0.0, []
        for wait in waits[0]:
            places.sort()
            places[0] += wait + INDEX / 90e6
            ready.append(places[0])
        for begin, wait in zip(sorted(ready), waits[1], strict=True):
            places.sort()
            link = max(link, max(places[0], begin) + wait) + part / LINK
            places[0] = max(link, max(places[0], begin) + wait + part / 90e6)
        taken.append(max(places))
    assert floor(made, profile) <= np.median(taken) * 1.01


def test_without_a_service_time_there_is_none():
    assert floor(work(), Profile(name="loopback")) is None
    elsewhere = Target(name="s3://b/p", url="s3://b/p", region="us-east-1")
    assert floor_of(work(target=elsewhere)) is None
