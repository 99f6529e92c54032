"""The embedded store counts exactly, logs what it served, and repeats its random service times."""

import http.client
import math
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from harness.errors import StoreError
from harness.store import lifecycle
from harness.store.control import StoreControl
from harness.store.lifecycle import StoreSettings

BODY = bytes(range(256)) * 16


class Raw:
    """One connection without a client library, so that each request is the one written here."""

    def __init__(self, endpoint: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=60)

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        self.connection.request(method, path, body, headers)
        with self.connection.getresponse() as answer:
            return answer.status, answer.read()


@pytest.fixture
def raw(embedded_store) -> Raw:
    return Raw(embedded_store.endpoint)


@pytest.fixture
def start(own_state):
    """Start a store with settings of its own, holding one object; return its endpoint and control port."""

    def started(body: bytes = BODY, **settings) -> tuple[str, StoreControl]:
        state = lifecycle.start(StoreSettings(**settings))
        send = Raw(state.endpoint)
        assert [send("PUT", "/bench")[0], send("PUT", "/bench/k", body)[0]] == [200, 200]
        return state.endpoint, StoreControl(state.control)

    return started


def test_a_known_sequence(raw, control, bucket):
    control.mark("all", log=True)
    assert control.since("all").requests == 0
    sent = [
        raw("PUT", f"/{bucket}/c/0", BODY),
        raw("PUT", f"/{bucket}/zarr.json", b"{}"),
        raw("HEAD", f"/{bucket}/c/0"),
        raw("GET", f"/{bucket}/zarr.json"),
        raw("GET", f"/{bucket}/c/0", Range="bytes=-16"),
        raw("GET", f"/{bucket}/c/0", Range="bytes=4000-4095"),
        raw("GET", f"/{bucket}/c/0", Range="bytes=0-99"),
        raw("GET", f"/{bucket}/c/0"),
        raw("GET", f"/{bucket}/c/none"),
        raw("GET", f"/{bucket}/c/0", Range="bytes=9999-"),
        raw("GET", f"/{bucket}?list-type=2"),
        raw("DELETE", f"/{bucket}/c/0"),
    ]
    seen = control.since("all")
    assert [status for status, _ in sent] == [200, 200, 200, 200, 206, 206, 206, 200, 404, 416, 200, 204]
    assert seen.requests == len(sent)
    assert (seen.put, seen.head, seen.get_metadata, seen.get_index, seen.get_data) == (2, 1, 1, 2, 4)
    assert (seen.list, seen.delete, seen.other) == (1, 1, 0)
    assert (seen.errors, seen.errors_by_status) == (2, {"404": 1, "416": 1})
    assert seen.bytes_out == sum(len(body) for _, body in sent)
    assert seen.bytes_in == len(BODY) + len(b"{}")
    assert (seen.connections_accepted, seen.max_in_flight, seen.in_flight) == (1, 1, 0)
    _matches(control.requests("all"), sent, bucket)


def _matches(log, sent, bucket):
    """The log says of each request what its client saw."""
    assert [(line.status, line.bytes) for line in log] == [(status, len(body)) for status, body in sent]
    assert {line.bucket for line in log} == {bucket}
    assert [line.key for line in log[:4]] == ["c/0", "zarr.json", "c/0", "zarr.json"]
    assert [line.range for line in log[4:8]] == [(4080, 4096), (4000, 4096), (0, 100), None]
    assert [line.kind for line in log[3:8]] == ["get_metadata", "get_index", "get_index", "get_data", "get_data"]
    assert len({line.connection for line in log}) == 1
    for line in log:
        assert line.received_ns <= line.first_byte_ns <= line.last_byte_ns
    assert [line.received_ns for line in log] == sorted(line.received_ns for line in log)


def test_intervals_overlap_and_end(raw, control, bucket):
    control.mark("outer")
    raw("PUT", f"/{bucket}/k", BODY)
    control.mark("inner / odd name")
    raw("GET", f"/{bucket}/k")
    assert (control.since("outer").requests, control.since("inner / odd name").requests) == (2, 1)
    control.mark("outer")
    assert control.since("outer").requests == 0
    control.forget("outer")
    with pytest.raises(StoreError, match="404"):
        control.since("outer")
    with pytest.raises(StoreError, match="404"):
        control.requests("inner / odd name")


def test_the_control_port_does_not_count_itself(control):
    before = control.counters()
    control.health()
    after = control.counters()
    assert (before.requests, before.connections_accepted) == (after.requests, after.connections_accepted)
    assert after.cpu_seconds >= before.cpu_seconds > 0
    assert after.peak_rss_bytes >= after.rss_bytes > 0


def test_an_unreachable_control_port():
    with StoreControl("http://127.0.0.1:9") as nobody, pytest.raises(StoreError, match="control port") as caught:
        nobody.health()
    assert "\n" not in str(caught.value)


def test_a_connection_closed_while_idle_is_renewed(control):
    control.health()
    assert control._connection.sock is not None
    control._connection.sock.shutdown(2)
    control.health()


def _first_byte_ms(control: StoreControl, endpoint: str, count: int) -> list[float]:
    """What the store's log says of `count` ranged reads one after the other."""
    control.mark("draws", log=True)
    send = Raw(endpoint)
    for _ in range(count):
        assert send("GET", "/bench/k", Range="bytes=0-9")[0] == 206
    return [(line.first_byte_ns - line.received_ns) / 1e6 for line in control.requests("draws")]


def test_more_reads_of_a_prefix_than_it_may_have_get_slow_down(start):
    endpoint, control = start(profile="loopback", requests_per_second_per_prefix=50)
    send = Raw(endpoint)
    assert send("PUT", "/bench/other/k", BODY)[0] == 200
    control.mark("burst")
    answers = [send("GET", "/bench/k", Range="bytes=0-9")[:2] for _ in range(40)]
    statuses = [status for status, _ in answers]
    assert statuses[0] == 206
    assert set(statuses) == {206, 503}
    assert all(body.count(b"<Code>SlowDown</Code>") == (status == 503) for status, body in answers)
    assert send("GET", "/bench/other/k")[0] == 200  # another prefix
    assert send("PUT", "/bench/k", BODY)[0] == 200  # what writes is not held
    assert control.since("burst").errors_by_status == {"503": statuses.count(503)}
    deadline = time.monotonic() + 30
    while send("GET", "/bench/k", Range="bytes=0-9")[0] != 206:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_connection_without_a_request_is_closed_and_a_busy_one_is_not(start):
    endpoint, control = start(profile="loopback", first_byte_ms=600, idle_seconds=0.3)
    send = Raw(endpoint)
    assert send("GET", "/bench/k", Range="bytes=0-9")[0] == 206  # waiting for the first byte is no idling
    deadline = time.monotonic() + 30
    while control.counters().connections_open:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        send("GET", "/bench/k")
    assert Raw(endpoint)("GET", "/bench/k", Range="bytes=0-9")[0] == 206


def _earlier(one: list[float], two: list[float]) -> list[float]:
    """Return the earlier of two passes: a busy machine makes answers late and none early."""
    return list(map(min, one, two))


def _distance(one: list[float], two: list[float]) -> float:
    return statistics.median(abs(math.log(a / b)) for a, b in zip(one, two, strict=True))


def test_a_round_has_first_byte_times_of_its_own_and_brings_them_again(start):
    endpoint, control = start(profile="loopback", first_byte_ms=5, first_byte_p99_ms=50)
    times = []
    for number in (1, 2, 1, 2, 1, 1):
        control.reset_draws(number)
        times.append(_first_byte_ms(control, endpoint, 30))
    first, other, again = (_earlier(times[one], times[two]) for one, two in ((0, 2), (1, 3), (4, 5)))
    assert _distance(first, again) < _distance(first, other) / 4


def test_reset_draws_repeats_the_first_byte_times(start):
    endpoint, control = start(profile="loopback", first_byte_ms=5, first_byte_p99_ms=50)

    def drawn() -> tuple[list[float], list[float]]:
        control.reset_draws()
        return _first_byte_ms(control, endpoint, 30), _first_byte_ms(control, endpoint, 30)

    found = [[_earlier(*pair) for pair in zip(drawn(), drawn(), strict=True)] for _ in range(2)]
    (first, other), (again, _) = found
    assert _distance(first, again) < _distance(first, other) / 4
    slow = sorted(range(30), key=first.__getitem__)[-3:]
    assert set(slow) <= set(sorted(range(30), key=again.__getitem__)[-6:])


def test_no_first_byte_comes_early(start):
    endpoint, control = start(profile="loopback", first_byte_ms=15)
    assert min(_first_byte_ms(control, endpoint, 10)) >= 15


def _seconds_of_reads(endpoint: str, connections: int) -> float:
    """How long it takes to read the object once on each of so many connections at the same time."""
    clients = [Raw(endpoint) for _ in range(connections)]
    for client in clients:
        client("HEAD", "/bench/k")
    began = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        statuses = list(pool.map(lambda client: client("GET", "/bench/k")[0], clients))
    assert statuses == [200] * connections
    return time.perf_counter() - began


@pytest.mark.alone
def test_the_rate_of_a_connection_is_its_own(start):
    endpoint, _ = start(bytes(4 << 20), profile="loopback", connection_mb_s=8)
    one, four = _seconds_of_reads(endpoint, 1), _seconds_of_reads(endpoint, 4)
    assert four < 2 * one


@pytest.mark.alone
def test_the_rate_of_the_link_is_shared(start):
    endpoint, _ = start(bytes(4 << 20), profile="loopback", link_gbit_s=0.064)
    one, four = _seconds_of_reads(endpoint, 1), _seconds_of_reads(endpoint, 4)
    assert 2.5 * one < four < 6 * one


def test_a_hundred_connections_in_flight(start):
    # Every answer waits long enough for all hundred threads to have asked.
    endpoint, control = start(profile="loopback", first_byte_ms=300)
    control.mark("load")
    until = time.monotonic() + 3
    wrong: list[object] = []

    def read() -> None:
        send = Raw(endpoint)
        while time.monotonic() < until:
            answer = send("GET", "/bench/k", Range="bytes=256-511")
            if answer != (206, bytes(range(256))):
                wrong.append(answer)

    with ThreadPoolExecutor(100) as pool:
        for future in [pool.submit(read) for _ in range(100)]:
            future.result()
    seen = control.since("load")
    assert not wrong
    assert (seen.errors, seen.connections_accepted, seen.max_in_flight) == (0, 100, 100)
    assert seen.requests == seen.get_data >= 300
    assert seen.bytes_out == 256 * seen.requests
