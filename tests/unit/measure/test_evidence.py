"""What counters say of an execution: when a sample is flagged."""

import msgspec
import pytest

from harness.datasets.array import ArrayInfo
from harness.errors import MeasurementError
from harness.machine.cpu import allowed_cores
from harness.machine.network import NicCounters
from harness.measure import evidence
from harness.measure.evidence import Evidence, make_sample
from harness.results.sample import (
    FLAG_BUSY_MACHINE,
    FLAG_CPU_BOUND,
    FLAG_IN_FLIGHT,
    FLAG_THROTTLED,
    RequestCounts,
    Timed,
)
from harness.store.control import StoreCounters
from harness.targets.target import Target
from harness.workload.model import Workload
from harness.workload.patterns import Parameters
from harness.workload.truth import Truth

ARRAY = ArrayInfo(
    key="tiny/small", shape=(4,), chunk_shape=(1,), shard_shape=(4,), dtype="uint16", codec="none", subchunk_order="c"
)
TIMED = Timed(seconds=1.0, cpu_seconds=0.1, peak_rss_bytes=None, array_bytes=8, calls=1, request_counts=None)


def workload(**fields):
    known = {
        "schema": 1,
        "pattern": "whole_array",
        "parameters": Parameters(),
        "target": Target(name="embedded", url="s3://bench", profile="s3"),
        "array": ARRAY,
        "in_flight": 100,
        "reads": (((0, 4, 1),),),
        "array_bytes": 8,
        "wanted_chunks": 8192,
        "wanted_bytes": 8,
        "wanted_shards": 128,
        "gap_bytes": (),
        "truth": Truth(decoded_crc32c=""),
    }
    return Workload(**(known | fields))


def counters(**fields):
    nothing = {"errors_by_status": {}, "faults_by_name": {}, "cpu_seconds": 0.0}
    known = dict.fromkeys(StoreCounters.__struct_fields__, 0) | nothing
    return msgspec.convert(known | fields, StoreCounters)


def sample(work, store=None, timed=TIMED, *, counts_alone=False, **fields):
    nic = NicCounters(interface="lo", rx_bytes=None, rx_packets=None)
    return make_sample(work, timed, Evidence(store=store, nic=nic, **fields), counts_alone=counts_alone)


def flags(work, store=None, **fields):
    return sample(work, store, **fields).flags


@pytest.mark.parametrize(
    ("data", "index", "most", "flagged"),
    [
        (4, 0, 4, False),  # a GET for each of four shards: no more could be under way
        (4, 128, 4, False),  # requests for indexes are over before those for data begin
        (99, 0, 4, False),
        (128, 0, 4, True),  # a shard after another, four at a time
        (128, 0, 79, True),
        (128, 0, 80, False),
        (128, 0, 120, False),
        (128, 0, 121, True),
        (4, 0, 121, True),  # too many are too many, whatever the work
    ],
)
def test_in_flight_is_marked_where_the_reader_could_have_had_more_or_had_too_many(data, index, most, flagged):
    seen = counters(requests=data + index, get_data=data, get_index=index, max_in_flight=most)
    assert (FLAG_IN_FLIGHT in flags(workload(), seen)) is flagged


def test_only_reads_that_may_be_under_way_together_have_requests_in_flight_together():
    reads = (((0, 4, 1),),) * 64
    seen = counters(requests=256, get_data=256, max_in_flight=60)
    assert FLAG_IN_FLIGHT not in flags(workload(reads=reads, concurrent_reads=16), seen)  # 64 at once at most
    assert FLAG_IN_FLIGHT in flags(workload(reads=reads, concurrent_reads=64), seen)


def test_a_store_that_answers_at_once_has_few_in_flight():
    loopback = workload(target=Target(name="embedded", url="s3://bench", profile="loopback"))
    seen = counters(requests=128, get_data=128, max_in_flight=2)
    assert FLAG_IN_FLIGHT not in flags(loopback, seen)
    assert FLAG_IN_FLIGHT in flags(workload(), seen)


def test_a_sample_beside_a_busy_program_is_marked():
    for share, marked in ((None, False), (0.09, False), (0.11, True)):
        found = flags(workload(), counters(), other_cores=None if share is None else share * allowed_cores())
        assert (FLAG_BUSY_MACHINE in found) is marked, share


def test_cpu_bound_is_judged_against_what_a_quota_leaves(monkeypatch):
    for capacity, marked in (
        (4.0, False),
        (0.5, False),
        (0.2, True),
    ):  # the reader took a tenth of a core, the store too
        monkeypatch.setattr(evidence, "capacity", lambda capacity=capacity: capacity)
        assert (FLAG_CPU_BOUND in flags(workload(), counters(cpu_seconds=0.1))) is marked, capacity


def test_a_sample_that_a_quota_stopped_is_marked():
    for periods, marked in ((None, False), (0, False), (1, True)):
        assert (FLAG_THROTTLED in flags(workload(), counters(), throttled_periods=periods)) is marked, periods


COUNTED = msgspec.structs.replace(TIMED, request_counts=RequestCounts(requests=2, retries=0, fetched_bytes=8))


@pytest.mark.parametrize(("alone", "requests", "source"), [(False, None, None), (True, 2, "reader")])
def test_where_no_store_counts_only_a_count_of_every_request_stands(alone, requests, source):
    found = sample(workload(), None, COUNTED, counts_alone=alone)
    assert (found.requests, found.requests_source) == (requests, source)
    assert (found.fetched_bytes is None, found.retries is None) == (not alone, not alone)


def test_where_the_store_counts_a_reader_still_has_to_agree_with_it():
    seen = counters(requests=2, bytes_out=8)
    assert sample(workload(), seen, COUNTED).requests_source == "reader"
    with pytest.raises(MeasurementError, match="the reader counts 2 requests, the store 3"):
        sample(workload(), counters(requests=3, bytes_out=8), COUNTED)


@pytest.mark.parametrize(("came", "fails"), [(0, True), (7, True), (8, False), (9, False)])
def test_an_array_of_which_fewer_bytes_came_than_are_stored_is_no_sample(came, fails):
    """As by a reader that asks another service than the one that counts."""
    work = workload(least_bytes=8)
    seen = counters(requests=2, bytes_out=came)
    counted = msgspec.structs.replace(TIMED, request_counts=RequestCounts(requests=2, fetched_bytes=came))
    for store, timed, alone in ((seen, TIMED, False), (None, counted, True)):
        if not fails:
            assert sample(work, store, timed, counts_alone=alone).fetched_bytes == came
            continue
        with pytest.raises(MeasurementError, match=f"{came} bytes were counted, and the wanted chunks are stored as 8"):
            sample(work, store, timed, counts_alone=alone)


def test_a_sample_keeps_what_the_limit_before_it_asked_for():
    before, one, after = (sample(workload(), counters(requests=n, get_data=n, bytes_out=n)) for n in (256, 128, 250))
    before.seconds, after.seconds = 0.2, 0.4
    evidence.attach_limit(one, before, after)
    assert one.limit_seconds == pytest.approx(0.3)
    assert (one.limit_requests, one.limit_fetched_bytes) == (256, 256)
