"""The analysis of a timeline: hand-computed optima, the critical path, stages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.timeline.model import Capture, Chunk, Request, Timeline, Validity
from harness.timeline.schedule import analyse, critical_path, in_flight, optimum, spans

MS = 1_000_000
BEGIN = 7_000 * MS


def request(number: int, sent: float, first: float, last: float, *, kind="data", key="c/0", span=(0, 100)) -> Request:
    return Request(
        id=number,
        method="GET",
        key=key,
        range=span,
        kind=kind,
        sent_ns=BEGIN + round(sent * MS),
        first_byte_ns=BEGIN + round(first * MS),
        last_byte_ns=BEGIN + round(last * MS),
        bytes=span[1] - span[0],
    )


def chunk(number: int, times: tuple[float, ...], *, brought=0, key="c/0", offset=0, length=100, **more) -> Chunk:
    sent, first, last, start, decoded, copied = (BEGIN + round(time * MS) for time in times)
    return Chunk(
        chunk=(number,),
        key=key,
        offset=offset,
        length=length,
        request=brought,
        sent_ns=sent,
        first_byte_ns=first,
        last_byte_ns=last,
        decode_start_ns=start,
        decoded_ns=decoded,
        copied_ns=copied,
        **more,
    )


def timeline(requests, chunks, end: float, **more) -> Timeline:
    more.setdefault("capture", Capture(interface="lo", packets=1, clock_error_ns=0))
    return Timeline(
        reader="test",
        workload={"in_flight": 100},
        target="test",
        begin_ns=BEGIN,
        end_ns=BEGIN + round(end * MS),
        cores=more.pop("cores", 2),
        valid=Validity(ok=True, chunks_wanted=len(chunks), chunks_linked=len(chunks), requests_recorded=len(requests)),
        requests=requests,
        chunks=chunks,
        **more,
    )


def ms(found: Timeline) -> float:
    return (found.end_ns - found.begin_ns) / MS


def serial() -> Timeline:
    """Four requests of 20 + 10 ms one after another, each with a chunk that decodes in 5 ms and is copied in 1 ms."""
    requests = [request(n, 30 * n, 30 * n + 20, 30 * n + 30, span=(100 * n, 100 * n + 100)) for n in range(4)]
    chunks = [
        chunk(n, (30 * n, 30 * n + 20, 30 * n + 30, 120 + 6 * n, 125 + 6 * n, 126 + 6 * n), brought=n, offset=100 * n)
        for n in range(4)
    ]
    return timeline(requests, chunks, end=144)


def test_requests_that_waited_for_each_other_go_out_at_once():
    # 30 ms for all four, then two rounds of 6 ms on two cores
    assert ms(optimum(serial(), in_flight=100, cores=2)) == pytest.approx(42)
    assert ms(optimum(serial(), in_flight=100, cores=4)) == pytest.approx(36)
    assert ms(optimum(serial(), in_flight=100, cores=1)) == pytest.approx(54)


def test_the_bound_on_requests_in_flight_is_kept():
    # two and two requests: 60 ms; the last two are decoded at once
    assert ms(optimum(serial(), in_flight=2, cores=2)) == pytest.approx(66)
    assert ms(optimum(serial(), in_flight=1, cores=2)) == pytest.approx(126)
    assert max(number for _, number in in_flight(optimum(serial(), in_flight=2, cores=2).requests)) == 2


def test_connections_share_the_link():
    slow = serial()
    slow.link_bytes_per_second = 10_000  # the four bodies of 100 bytes at once take 40 ms, not 10
    assert ms(optimum(slow, in_flight=100, cores=4)) == pytest.approx(20 + 40 + 6)
    slow.link_bytes_per_second = 1e9  # no bottleneck: each keeps its own rate
    assert ms(optimum(slow, in_flight=100, cores=4)) == pytest.approx(36)


def test_a_link_is_shared_fairly_between_unequal_connections():
    # 100 bytes at 5 bytes/ms and at 50; the link gives 30: the first takes its 5, the second 25 and is done in 4 ms
    requests = [request(0, 0, 0, 20), request(1, 0, 0, 2, span=(100, 200))]
    shared = timeline(requests, [], end=20, link_bytes_per_second=30_000)
    best = {r.id: r for r in optimum(shared, in_flight=2, cores=1).requests}
    assert best[1].last_byte_ns - BEGIN == pytest.approx(4 * MS)
    assert best[0].last_byte_ns - BEGIN == pytest.approx(20 * MS)


def test_equal_requests_do_not_wait_for_each_other_in_rounds():
    # 20 + 10 ms each where the link carries one body at a time, two in flight: fair shares end at 40 and 80 ms,
    # in turn at 30, 40, 60 and 70
    found = serial()
    found.chunks = []
    found.link_bytes_per_second = found.connection_bytes_per_second = 10_000
    assert ms(optimum(found, in_flight=2, cores=1)) == pytest.approx(70)


def test_of_few_long_bodies_none_is_left_to_a_connection_alone():
    # 100 bytes each, 10 a ms over a connection and 15 over the link: in turn the second has 50 left when 10 ms are over
    requests = [request(n, 0, 0, 20, span=(100 * n, 100 * n + 100)) for n in range(2)]
    found = timeline(requests, [], end=20, link_bytes_per_second=15_000, connection_bytes_per_second=10_000)
    assert ms(optimum(found, in_flight=2, cores=1)) == pytest.approx(200 / 15)


def test_a_body_that_was_kept_back_comes_at_the_rate_of_its_connection():
    # 100 bytes each, of which the link carries 10 a ms: two at once took 20 ms each, though each could have taken 10
    requests = [request(n, 0, 20, 40, span=(100 * n, 100 * n + 100)) for n in range(2)]
    found = timeline(requests, [], end=40, link_bytes_per_second=10_000)
    assert ms(optimum(found, in_flight=1, cores=1)) == pytest.approx(80)  # not known: as recorded
    found.connection_bytes_per_second = 10_000
    assert ms(optimum(found, in_flight=1, cores=1)) == pytest.approx(60)
    assert ms(optimum(found, in_flight=2, cores=1)) == pytest.approx(40)
    found.connection_bytes_per_second = 1_000  # it came faster than that
    assert ms(optimum(found, in_flight=1, cores=1)) == pytest.approx(80)


@given(
    sizes=st.lists(st.integers(1, 5_000), min_size=1, max_size=12),
    rates=st.tuples(st.integers(1, 50), st.integers(1, 100)),
    held=st.floats(1, 10),
)
def test_however_long_its_bodies_were_kept_back_a_recording_has_the_same_optimum(sizes, rates, held):
    connection, link = rates

    def recorded(times: float) -> Timeline:
        requests = [
            request(n, 0, 20, 20 + times * size / min(connection, link), span=(10_000 * n, 10_000 * n + size))
            for n, size in enumerate(sizes)
        ]
        return timeline(
            requests,
            [],
            end=20 + times * sum(sizes),
            link_bytes_per_second=1e3 * link,
            connection_bytes_per_second=1e3 * min(connection, link),
        )

    assert ms(optimum(recorded(held), in_flight=3, cores=1)) == pytest.approx(
        ms(optimum(recorded(1), in_flight=3, cores=1)), rel=1e-3
    )


def test_data_follow_the_index_of_their_shard_and_metadata_is_spared():
    requests = [
        request(0, 0, 20, 20, kind="metadata"),
        request(1, 20, 40, 40, kind="index", span=(900, 1000)),
        request(2, 60, 80, 90),
        request(3, 100, 120, 120, kind="index", key="c/1", span=(900, 1000)),
        request(4, 120, 140, 150, key="c/1"),
    ]
    chunks = [
        chunk(0, (60, 80, 90, 90, 92, 93), brought=2),
        chunk(1, (120, 140, 150, 150, 152, 153), brought=4, key="c/1"),
    ]
    best = optimum(timeline(requests, chunks, end=160), in_flight=100, cores=2)
    assert [r.id for r in best.requests] == [1, 2, 3, 4]
    assert ms(best) == pytest.approx(20 + 30 + 3)


def test_chunks_of_a_merged_range_are_decoded_as_their_part_arrives():
    # one range of 20 + 40 ms brings four chunks of 10 ms decode: with one core the last begins at 60 at the latest
    chunks = [chunk(n, (0, 20, 60, 60 + 10 * n, 70 + 10 * n, 70 + 10 * n), offset=25 * n, length=25) for n in range(4)]
    assert ms(optimum(timeline([request(0, 0, 20, 60)], chunks, end=100), in_flight=1, cores=1)) == pytest.approx(70)


@pytest.mark.parametrize(
    ("array", "span", "index", "ms_needed"),
    [
        ({}, (0, 104), False, 60 + 4 * 10),  # the index comes last
        ({"index_location": "start"}, (0, 104), False, 20 + 40 * 25 / 104 + 4 * 10),  # or is there with the first chunk
        ({}, (0, 100), False, 30 + 4 * 10),  # no index in it: it was known before
        ({}, (0, 200), True, 20 + 20 + 5 + 4 * 10),  # the index was asked for, and half of the body is a gap
    ],
)
def test_chunks_of_a_shard_that_comes_whole_are_found_when_its_index_is_there(array, span, index, ms_needed):
    indexes = [request(1, 0, 20, 20, kind="index", span=(200, 300))] if index else []
    begin = 20 if index else 0
    chunks = [
        chunk(n, (begin, 20, 60, 60 + 10 * n, 70 + 10 * n, 70 + 10 * n), offset=25 * n, length=25) for n in range(4)
    ]
    found = timeline([*indexes, request(0, begin, begin + 20, begin + 60, span=span)], chunks, end=100)
    found.workload["array"] = array
    assert ms(optimum(found, in_flight=2, cores=1)) == pytest.approx(ms_needed)


def test_a_reader_that_had_more_in_flight_than_it_may_is_held_against_as_many():
    requests = [request(n, 0, 20, 30, span=(100 * n, 100 * n + 100)) for n in range(4)]
    found = timeline(requests, [], end=30)
    found.workload["in_flight"] = 2
    assert analyse(found).times_optimum == pytest.approx(1)


def test_of_two_copies_one_remains_and_a_shared_copy_is_divided():
    copies = {"shard_copy_start_ns": BEGIN + 61 * MS, "shard_copy_ns": BEGIN + 62 * MS}
    two = chunk(0, (0, 20, 30, 50, 60, 90), **copies, copy_start_ns=BEGIN + 70 * MS)
    assert ms(optimum(timeline([request(0, 0, 20, 30)], [two], end=90), in_flight=1, cores=1)) == pytest.approx(41)
    shared = [
        chunk(n, (0, 20, 30, 30, 40, 60), offset=50 * n, length=50, copy_start_ns=BEGIN + 50 * MS) for n in range(2)
    ]
    found = timeline([request(0, 0, 20, 30)], shared, end=60)
    assert ms(optimum(found, in_flight=1, cores=1)) == pytest.approx(25 + 2 * (10 + 5))


def test_a_chunk_that_was_decoded_once_for_several_reads_is_decoded_once():
    # 30 ms for its bytes, one decode of 10 ms, and a copy of 5 ms into each of three arrays; on three cores at once
    reads = [chunk(n, (0, 20, 30, 30, 40, 45 + 5 * n), copy_start_ns=BEGIN + (40 + 5 * n) * MS) for n in range(3)]
    found = timeline([request(0, 0, 20, 30)], reads, end=55)
    assert ms(optimum(found, in_flight=1, cores=1)) == pytest.approx(30 + 10 + 3 * 5)
    best = optimum(found, in_flight=1, cores=3)
    assert ms(best) == pytest.approx(30 + 10 + 5)
    assert {(c.decode_start_ns - BEGIN, c.decoded_ns - BEGIN) for c in best.chunks} == {(30 * MS, 40 * MS)}


def test_time_in_codecs_counts_where_a_library_goes_codec_by_codec():
    busy = chunk(0, (0, 20, 30, 30, 90, 90), decode_busy_ns=5 * MS)
    found = timeline([request(0, 0, 20, 30)], [busy], end=90)
    assert ms(optimum(found, in_flight=1, cores=1)) == pytest.approx(35)
    stages = analyse(found).stages
    assert stages["decode"].seconds == pytest.approx(0.005)
    assert stages["decode_wait"].seconds == pytest.approx(0.055)


def test_the_optimum_of_an_optimum_is_itself():
    best = optimum(serial(), in_flight=3, cores=2)
    again = optimum(best, in_flight=3, cores=2)
    assert ms(again) == pytest.approx(ms(best))
    assert [c.copied_ns for c in again.chunks] == [c.copied_ns for c in best.chunks]


def test_the_critical_path_goes_back_from_the_last_chunk():
    steps = critical_path(serial())
    assert [(step.stage, (step.end_ns - step.begin_ns) / MS) for step in steps] == [
        *4 * [("first_byte", 20), ("transfer", 10)],
        ("decode_wait", 18),
        ("decode", 5),
        ("copy", 1),
    ]
    assert steps[-1].chunk == (3,)


def test_what_comes_before_a_chunk_in_its_merged_range_is_transfer():
    chunks = [chunk(n, (0, 20 + 20 * n, 40 + 20 * n, 60, 61, 62), offset=50 * n, length=50) for n in range(2)]
    steps = critical_path(timeline([request(0, 0, 20, 60)], chunks[1:], end=62))
    assert [(step.stage, (step.end_ns - step.begin_ns) / MS) for step in steps][:3] == [
        ("first_byte", 20),
        ("transfer", 20),
        ("transfer", 20),
    ]


def test_the_sentence_says_how_far_from_the_optimum_and_why():
    found = serial()
    for one in found.chunks:
        one.thread = 11
    analysis = analyse(found)
    assert analysis.times_optimum == pytest.approx(144 / 42)
    found.capture = None
    without = analyse(found)
    assert without.times_optimum is None
    assert without.sentence.startswith("144.0 ms, times the optimum n/a without the wire: 56% first byte")
    assert analysis.sentence == (
        "144.0 ms, 3.43x the optimum of 42.0 ms: 56% first byte, 28% transfer, "
        "12% waiting for decode while its thread decoded others"
    )


def test_a_chunk_that_waits_for_the_rest_of_its_shard_is_told_so():
    requests = [request(0, 0, 20, 30), request(1, 0, 20, 80, span=(100, 200))]
    chunks = [
        chunk(0, (0, 20, 30, 85, 90, 100)),
        chunk(1, (0, 20, 80, 80, 85, 86), brought=1, offset=100),
    ]
    assert analyse(timeline(requests, chunks, end=100)).cause == "until its shard was complete"


def test_events_that_are_not_known_leave_their_time_to_the_next():
    wire = chunk(0, (0, 20, 30, 0, 0, 0))
    wire.decode_start_ns = wire.decoded_ns = wire.copied_ns = None
    assert [span.stage for span in spans(wire, BEGIN)] == ["send_wait", "first_byte", "transfer"]
    analysis = analyse(timeline([request(0, 0, 20, 30)], [wire], end=50))
    assert analysis.critical_seconds == pytest.approx({"first_byte": 0.02, "transfer": 0.01, "return": 0.02})
    assert "decode" not in analysis.stages


def test_a_timeline_of_nothing_has_no_stages():
    empty = analyse(timeline([], [], end=3))
    assert (empty.in_flight, empty.stages, empty.critical_seconds) == (0, {}, {"start": 0.003})


@given(
    costs=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=12),
    places=st.integers(1, 5),
    cores=st.integers(1, 3),
)
def test_an_optimum_keeps_the_rules_and_never_beats_its_bounds(costs, places, cores):
    requests, chunks, at = [], [], 0.0
    for number, (wait, transfer, decode) in enumerate(costs):
        span = (100 * number, 100 * number + 100)
        requests.append(request(number, at, at + wait, at + wait + transfer, span=span))
        begin = at + wait + transfer
        times = (at, at + wait, begin, begin, begin + decode, begin + decode)
        chunks.append(chunk(number, times, brought=number, offset=100 * number))
        at = begin
    best = optimum(timeline(requests, chunks, end=at + 100), in_flight=places, cores=cores)
    assert max((number for _, number in in_flight(best.requests)), default=0) <= places
    longest = max(sum(cost) for cost in costs)
    work = max(sum(w + t for w, t, _ in costs) / places, sum(d for *_, d in costs) / cores)
    assert ms(best) >= max(longest, work) - 1e-3
    assert ms(best) <= sum(map(sum, costs)) + 1e-3
    for one in best.chunks:
        assert one.sent_ns <= one.first_byte_ns <= one.last_byte_ns <= one.decode_start_ns <= one.copied_ns
