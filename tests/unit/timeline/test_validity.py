"""What makes a recording invalid: each check fails on its own fault and on nothing else."""

import itertools

import msgspec
import pytest

from harness.store.control import StoreCounters
from harness.timeline import overhead
from harness.timeline.model import Chunk, Request, Timeline, Validity
from harness.timeline.validity import Wanted, examine, validate

WANTED = [Wanted((0, 0), "c/0/0", 100, 50), Wanted((0, 1), "c/0/0", 150, 40), Wanted((1, 0), "c/1/0", 0, 60)]
INDEX = {"kind": "index", "status": 206, "bytes": 36, "sent_ns": 10, "headers_ns": 20, "last_byte_ns": 21}
DATA = {"kind": "data", "status": 206, "sent_ns": 30, "headers_ns": 40, "first_byte_ns": 41, "last_byte_ns": 50}
TIMES = {
    "sent_ns": 30,
    "first_byte_ns": 41,
    "last_byte_ns": 50,
    "decode_start_ns": 60,
    "decoded_ns": 70,
    "shard_copy_start_ns": 70,
    "shard_copy_ns": 80,
    "copy_start_ns": 85,
    "copied_ns": 90,
}


def requests():
    return [
        Request(id=0, method="GET", key="c/0/0", range=(200, 236), **INDEX),
        Request(id=1, method="GET", key="c/1/0", range=(60, 96), **INDEX),
        Request(id=2, method="GET", key="c/0/0", range=(100, 190), **DATA),
        Request(id=3, method="GET", key="c/1/0", range=(0, 60), **DATA),
    ]


def chunks():
    return [
        Chunk(chunk=w.chunk, key=w.key, offset=w.offset, length=w.length, request=id_, **TIMES)
        for w, id_ in zip(WANTED, (2, 2, 3), strict=True)
    ]


def counters(**counted):
    zero = {name: {} if "_by_" in name else 0 for name in StoreCounters.__struct_fields__}
    return StoreCounters(**{**zero, "requests": 4, "get_index": 2, "get_data": 2, **counted})


def test_a_good_recording_is_valid():
    found = examine(chunks(), requests(), WANTED, counted=counters(), packets_dropped=0)
    assert found == Validity(
        ok=True, chunks_wanted=3, chunks_linked=3, requests_recorded=4, requests_counted=4, packets_dropped=0
    )


def test_without_counters_and_capture_the_rest_is_checked():
    found = examine(chunks(), requests(), WANTED)
    assert (found.ok, found.requests_counted, found.packets_dropped) == (True, None, None)


def test_an_empty_recording_of_something_wanted_is_not_valid():
    assert examine([], [], WANTED).failures == ["3 chunks wanted but not recorded, first (0, 0) at c/0/0 byte 100"]


FAULTS = {
    "a chunk is missing": (
        lambda c, r: c.pop(1),
        ["1 chunks wanted but not recorded, first (0, 1) at c/0/0 byte 150"],
    ),
    "a chunk too many": (
        lambda c, r: c.append(c[1]),
        ["1 chunks recorded but not wanted, first (0, 1) at c/0/0 byte 150"],
    ),
    "another chunk": (
        lambda c, r: setattr(c[2], "chunk", (5, 5)),
        [
            "1 chunks wanted but not recorded, first (1, 0) at c/1/0 byte 0",
            "1 chunks recorded but not wanted, first (5, 5) at c/1/0 byte 0",
        ],
    ),
    "another length": (
        lambda c, r: setattr(c[2], "length", 59),
        [
            "1 chunks wanted but not recorded, first (1, 0) at c/1/0 byte 0",
            "1 chunks recorded but not wanted, first (1, 0) at c/1/0 byte 0",
        ],
    ),
    "no request": (
        lambda c, r: setattr(c[0], "request", None),
        [
            "1 of 3 chunks have no request",
            "1 chunks wanted but not recorded, first (0, 0) at c/0/0 byte 100",
        ],
    ),
    "the request of another shard": (
        lambda c, r: setattr(c[0], "request", 3),
        ["1 chunks are linked to a request that did not bring them, first (0, 0)"],
    ),
    "the request of other bytes": (
        lambda c, r: setattr(c[0], "request", 0),
        ["1 chunks are linked to a request that did not bring them, first (0, 0)"],
    ),
    "a request that does not exist": (
        lambda c, r: setattr(c[0], "request", 77),
        ["1 chunks are linked to a request that did not bring them, first (0, 0)"],
    ),
    "ids twice": (lambda c, r: setattr(r[0], "id", 1), ["request ids are not unique"]),
    "not copied": (lambda c, r: setattr(c[0], "copied_ns", None), ["1 of 3 chunks have no copied_ns"]),
    "a request too many": (
        lambda c, r: r.append(msgspec.structs.replace(r[0], id=9)),
        ["3 requests recorded, 2 counted by the store (index)", "5 requests recorded, 4 counted by the store (all)"],
    ),
    "a HEAD for a GET": (
        lambda c, r: setattr(r[0], "method", "HEAD"),
        ["1 requests recorded, 2 counted by the store (index)", "1 requests recorded, 0 counted by the store (head)"],
    ),
    "request times": (
        lambda c, r: setattr(r[0], "headers_ns", 5),
        ["times decrease in 1 requests, first 0: headers_ns before sent_ns"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault):
    spoil, failures = FAULTS[fault]
    c, r = chunks(), requests()
    spoil(c, r)
    found = examine(c, r, WANTED, counted=counters())
    assert (found.ok, found.failures) == (False, failures)


@pytest.mark.parametrize(("before", "after"), [*itertools.pairwise(TIMES)])
def test_any_two_neighbouring_events_in_the_wrong_order_are_found(before, after):
    c = chunks()
    if TIMES[before] == TIMES[after]:
        setattr(c[1], after, TIMES[after] - 1)
    else:
        swapped = {before: TIMES[after], after: TIMES[before]}
        for name, value in swapped.items():
            setattr(c[1], name, value)
    (failure,) = examine(c, requests(), WANTED).failures
    assert failure.startswith("times decrease in 1 chunks, first (0, 1): ")


def test_an_event_that_no_chunk_has_is_no_fault():
    c = chunks()
    for chunk in c:
        chunk.decode_start_ns = chunk.decoded_ns = chunk.shard_copy_ns = chunk.sent_ns = None
    assert examine(c, requests(), WANTED).ok


def test_dropped_packets_are_a_fault():
    assert examine(chunks(), requests(), WANTED, packets_dropped=2).failures == ["the capture dropped 2 packets"]


def test_a_chunk_wanted_twice_has_to_be_read_twice():
    assert examine(chunks(), requests(), [*WANTED, WANTED[0]]).failures == [
        "1 chunks wanted but not recorded, first (0, 0) at c/0/0 byte 100"
    ]
    assert examine([*chunks(), chunks()[0]], requests(), [*WANTED, WANTED[0]]).ok


def test_what_the_recorder_found_wrong_stays_wrong():
    timeline = Timeline(
        reader="r",
        workload={},
        target="t",
        begin_ns=0,
        end_ns=100,
        cores=1,
        valid=Validity(ok=False, chunks_wanted=3, chunks_linked=3, requests_recorded=4, failures=["odd"]),
        requests=requests(),
        chunks=chunks(),
    )
    checked = validate(timeline, WANTED, counted=counters())
    assert (checked.ok, checked.failures, checked.requests_counted) == (False, ["odd"], 4)


def test_overhead_compares_neighbours_and_changes_their_order():
    seconds = {"plain": iter([1.0, 2.0, 4.0]), "recorded": iter([1.1, 2.4, 4.2])}
    order = []

    def execute(kind):
        order.append(kind)
        return next(seconds[kind])

    cost = overhead.measure(3, plain=lambda: execute("plain"), recorded=lambda: execute("recorded"))
    assert order == ["recorded", "plain", "plain", "recorded", "recorded", "plain"]
    assert (cost.pairs, cost.plain_seconds, cost.recorded_seconds) == (3, 2.0, 2.4)
    assert (cost.ratio, cost.ratio_low, cost.ratio_high) == pytest.approx((1.1, 1.05, 1.2))
    assert overhead.measure(0, plain=lambda: 1.0, recorded=lambda: 1.0) is None
