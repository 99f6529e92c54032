"""Timelines from the wire: synthetic packets with known answers, then live captures against two other witnesses."""

import asyncio
import contextlib
import ctypes
import http.client
import itertools
import json
import math
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import NamedTuple

import dpkt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BadUseError, MeasurementError
from harness.measure import timelines
from harness.measure.timelines import record_timeline
from harness.results.sample import NETWORK_LIMIT
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.targets.target import Target
from harness.timeline.model import Chunk, Request, Timeline, Validity, WireTimes, decode
from harness.timeline.validity import Wanted
from harness.timeline.wire import bpf, capture, clock, from_wire, lags, merge, ring, why_not
from harness.timeline.wire.captured import Captured, Server
from harness.timeline.wire.capturing import take
from harness.timeline.wire.clock import Conversion, Reading
from harness.timeline.wire.packets import segments
from harness.timeline.wire.ring import PacketRing, Raw
from harness.workload.create import create_workload as create_workload
from harness.workload.patterns import Parameters
from tests.support.data import create

PORT = 9000
HOST = "127.0.0.1"
SERVER = Server(HOST, PORT)
AHEAD_NS = 10**18
"""The realtime clock of the synthetic packets is this much ahead of the monotonic one."""
SYN, FIN, ACK = dpkt.tcp.TH_SYN, dpkt.tcp.TH_FIN, dpkt.tcp.TH_ACK


class Line:
    """Packets between clients and the server, as the capture would keep them; stamps are given by the tests."""

    def __init__(self):
        self.raw = []

    def connection(self, port=40_000, up=1_000, down=5_000, **more):
        return Conversation(self, port, up, down, **more)

    def captured(self, raw=None):
        found = Captured(server=SERVER, interface="lo")
        take(found, segments(self.raw if raw is None else raw, Conversion(AHEAD_NS, 0), PORT))
        return found


class Conversation:
    """One connection; `up` and `down` are the sequence numbers that come next."""

    def __init__(self, line, port, up, down, v6=False, keep=10**9):
        self.line, self.port, self.up, self.down, self.v6, self.keep = line, port, up, down, v6, keep

    def packet(self, stamp, from_client, seq, ack, data=b"", flags=ACK, zero_length=False):
        ports = {"sport": self.port, "dport": PORT} if from_client else {"sport": PORT, "dport": self.port}
        tcp = dpkt.tcp.TCP(seq=seq % 2**32, ack=ack % 2**32, flags=flags, data=data, opts=b"\x01" * 12, **ports)
        tcp.off = 8
        if self.v6:
            address = b"\0" * 15 + b"\1"
            whole = bytes(dpkt.ip6.IP6(src=address, dst=address, nxt=6, plen=len(tcp), data=tcp))
        else:
            ip = dpkt.ip.IP(src=b"\x7f\0\0\1", dst=b"\x7f\0\0\1", p=6, data=tcp)
            ip.len = len(ip)
            whole = bytes(ip)
            if zero_length:
                whole = whole[:2] + b"\0\0" + whole[4:]
        self.line.raw.append(Raw(AHEAD_NS + stamp, whole[: self.keep], len(whole)))

    def asks(self, stamp, path="/b/k", method="GET", host=f"{HOST}:{PORT}", **headers):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{k}: {v}" for k, v in headers.items())]
        self.sends(stamp, "\r\n".join([*lines, "", ""]).encode())

    def sends(self, stamp, data):
        self.packet(stamp, True, self.up, self.down, data)
        self.up += len(data)

    def answers(self, stamp, data, **more):
        self.packet(stamp, False, self.down, self.up, data, **more)
        self.down += len(data)


def head(length, status="200 OK", **headers):
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {length}",
        *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def partial(begin, end, of=10_000):
    return head(end - begin, "206 Partial Content", Content_Range=f"bytes {begin}-{end - 1}/{of}")


def times(exchange):
    return (
        exchange.sent_ns,
        exchange.response_ns,
        exchange.headers_ns,
        exchange.first_byte_ns,
        exchange.last_byte_ns,
    )


@pytest.fixture
def line():
    return Line()


# --- from packets to requests, with known answers


def test_each_event_has_its_packets_stamp(line):
    wire = line.connection()
    wire.asks(100, "/b/a/c/0/0?x=1", Range="bytes=50-349")
    wire.answers(200, partial(50, 350))
    wire.answers(300, b"x" * 100)
    wire.answers(400, b"x" * 200)
    captured = line.captured()
    assert captured.failures == []
    [exchange] = captured.exchanges
    assert (exchange.method, exchange.path, exchange.status) == ("GET", "/b/a/c/0/0", 206)
    assert (exchange.range, exchange.object_bytes, exchange.bytes) == ((50, 350), 10_000, 300)
    assert times(exchange) == (100, 200, 200, 300, 400)
    assert [exchange.arrived_ns(at) for at in (49, 50, 149, 150, 349, 350)] == [None, 300, 300, 400, 400, None]


def test_a_suffix_is_resolved_by_the_answer(line):
    wire = line.connection()
    wire.asks(1, Range="bytes=-100")
    wire.answers(2, partial(9_900, 10_000) + b"x" * 100)
    assert line.captured().exchanges[0].range == (9_900, 10_000)


def test_headers_and_body_in_one_packet_arrive_together(line):
    wire = line.connection()
    wire.asks(1)
    wire.answers(2, head(3) + b"abc")
    assert times(line.captured().exchanges[0]) == (1, 2, 2, 2, 2)


def test_split_headers_count_when_they_are_whole(line):
    wire = line.connection()
    wire.sends(10, b"GET /b/k HTTP/1.1\r\nHo")
    wire.sends(20, f"st: {HOST}:{PORT}\r\n\r".encode())
    wire.sends(30, b"\n")
    response = head(10)
    wire.answers(40, response[:9])
    wire.answers(50, response[9:-1])
    wire.answers(60, response[-1:] + b"x" * 4)
    wire.answers(70, b"x" * 6)
    assert times(line.captured().exchanges[0]) == (30, 40, 60, 60, 70)


def test_of_bytes_sent_twice_the_first_copy_counts(line):
    wire = line.connection()
    wire.asks(10)
    request = line.raw[-1]
    line.raw.append(request._replace(realtime_ns=AHEAD_NS + 15))
    begin = wire.down
    wire.answers(20, head(300))
    wire.answers(30, b"x" * 200)
    wire.packet(40, False, begin, wire.up, head(300))
    body = begin + len(head(300))
    wire.packet(50, False, body + 100, wire.up, b"x" * 150)  # half of it is new
    wire.packet(60, False, body + 220, wire.up, b"x" * 80)
    captured = line.captured()
    [exchange] = captured.exchanges
    assert captured.failures == []
    assert times(exchange) == (10, 20, 20, 30, 60)
    assert [exchange.arrived_ns(at) for at in (0, 199, 200, 249, 250, 299)] == [30, 30, 50, 50, 60, 60]


def test_bytes_count_when_all_before_them_are_there(line):
    wire = line.connection()
    wire.asks(10)
    begin = wire.down
    body = begin + len(head(300))
    wire.packet(20, False, body + 200, wire.up, b"x" * 100)
    wire.packet(30, False, begin, wire.up, head(300))
    wire.packet(40, False, body + 100, wire.up, b"x" * 100)
    wire.packet(50, False, body, wire.up, b"x" * 100)
    [exchange] = line.captured().exchanges
    assert times(exchange) == (10, 30, 30, 50, 50)
    assert exchange.arrived_ns(250) == 50


@given(
    cuts=st.sets(st.integers(1, 199), max_size=12),
    again=st.lists(st.tuples(st.integers(0, 199), st.integers(1, 60)), max_size=8),
    order=st.randoms(use_true_random=False),
    start=st.sampled_from([5_000, 2**32 - 100]),
)
def test_any_order_and_repetition_of_packets_gives_the_stamps_of_a_receiver(cuts, again, order, start):
    response = head(140) + b"x" * 140
    edges = [0, *sorted(c for c in cuts if c < len(response)), len(response)]
    spans = list(itertools.pairwise(edges)) + [(b, min(b + n, len(response))) for b, n in again if b < len(response)]
    order.shuffle(spans)
    line = Line()
    wire = line.connection(down=start)
    wire.asks(1)
    arrived = [None] * len(response)
    for stamp, (begin, end) in enumerate(spans, start=10):
        wire.packet(stamp, False, start + begin, wire.up, response[begin:end])
        for at in range(begin, end):
            arrived[at] = arrived[at] or stamp
    expected = list(itertools.accumulate(arrived, max))
    captured = line.captured()
    assert captured.failures == []
    [exchange] = captured.exchanges
    body_at = len(response) - 140
    assert [exchange.arrived_ns(at) for at in range(140)] == expected[body_at:]
    assert times(exchange) == (1, expected[0], expected[body_at - 1], expected[body_at], expected[-1])


def test_a_late_packet_fills_a_gap_between_two(line):
    wire = line.connection()
    wire.asks(10)
    begin = wire.down
    body = begin + len(head(300))
    wire.packet(20, False, begin, wire.up, head(300) + b"x" * 100)
    wire.packet(30, False, body + 200, wire.up, b"x" * 100)
    wire.packet(40, False, body + 50, wire.up, b"x" * 250)  # reaches over what is there on both sides
    [exchange] = line.captured().exchanges
    assert [exchange.arrived_ns(at) for at in (99, 100, 199, 200, 299)] == [20, 40, 40, 40, 40]


def test_packets_out_of_the_ring_in_another_order_are_sorted_by_their_stamps(line):
    wire = line.connection()
    wire.asks(10)
    wire.answers(20, head(200))
    wire.answers(30, b"x" * 100)
    wire.answers(40, b"x" * 100)
    expected = times(line.captured().exchanges[0])
    shuffled = list(line.raw)
    random.Random(1).shuffle(shuffled)
    assert times(line.captured(shuffled).exchanges[0]) == expected == (10, 20, 20, 30, 40)


def test_requests_follow_each_other_on_a_connection(line):
    wire = line.connection()
    wire.asks(10, "/b/one", "HEAD")
    wire.answers(20, head(5_000))
    wire.asks(30, "/b/none")
    wire.answers(40, head(4, "404 Not Found") + b"none")
    wire.asks(50, "/b/two", Range="bytes=0-9")
    wire.answers(60, partial(0, 10) + b"x" * 10)
    wire.asks(70, "/b/empty")
    wire.answers(80, head(0, "204 No Content"))
    found = line.captured()
    assert found.failures == []
    assert [(e.method, e.path, e.status, e.range, e.bytes, e.object_bytes) for e in found.exchanges] == [
        ("HEAD", "/b/one", 200, None, 0, 5_000),
        ("GET", "/b/none", 404, None, 4, None),
        ("GET", "/b/two", 206, (0, 10), 10, 10_000),
        ("GET", "/b/empty", 204, None, 0, None),
    ]
    assert [times(e) for e in found.exchanges] == [
        (10, 20, 20, None, 20),
        (30, 40, 40, 40, 40),
        (50, 60, 60, 60, 60),
        (70, 80, 80, None, 80),
    ]
    assert found.exchanges[1].arrived_ns(0) is None  # the body of an error is no bytes of an object


def test_an_upload_between_two_requests_is_stepped_over(line):
    wire = line.connection()
    wire.asks(10, "/b/k", "PUT", **{"Content-Length": 1_000, "Expect": "100-continue"})
    wire.answers(15, b"HTTP/1.1 100 Continue\r\n\r\n")
    wire.sends(20, b"GET " * 250)
    wire.answers(30, head(0))
    wire.asks(40)
    wire.answers(50, head(1) + b"x")
    found = line.captured()
    assert found.failures == []
    assert [(e.method, e.sent_ns, e.response_ns, e.last_byte_ns) for e in found.exchanges] == [
        ("PUT", 20, 15, 30),
        ("GET", 40, 50, 50),
    ]


def test_a_body_without_length_ends_where_the_next_response_begins(line):
    wire = line.connection()
    for stamp in (10, 110):
        wire.asks(stamp)
        wire.answers(stamp + 10, b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.answers(stamp + 20, b"4\r\nnone\r\n0\r\n\r\n")
    found = line.captured()
    assert found.failures == []
    assert [times(e) for e in found.exchanges] == [(10, 20, 20, 30, 30), (110, 120, 120, 130, 130)]


def test_interleaved_connections_are_kept_apart(line):
    wires = [line.connection(40_000 + n, up=n * 77, down=n * 99) for n in range(20)]
    for n, wire in enumerate(wires):
        wire.asks(100 + n, f"/b/{n}")
    for n, wire in enumerate(reversed(wires)):
        wire.answers(200 + n, head(200))
    for step in (300, 400):
        for n, wire in enumerate(wires):
            wire.answers(step + n, b"x" * 100)
    found = line.captured()
    assert found.failures == []
    assert [(e.path, times(e)) for e in found.exchanges] == [
        (f"/b/{n}", (100 + n, 219 - n, 219 - n, 300 + n, 400 + n)) for n in range(20)
    ]


def test_sequence_numbers_wrap(line):
    wire = line.connection(up=2**32 - 10, down=2**32 - 150)
    for stamp in (10, 20):
        wire.asks(stamp)
        wire.answers(stamp + 5, head(1_000) + b"x" * 1_000)
    found = line.captured()
    assert found.failures == []
    assert [(e.sent_ns, e.last_byte_ns, e.bytes) for e in found.exchanges] == [(10, 15, 1_000), (20, 25, 1_000)]


def test_a_capture_may_begin_within_a_response(line):
    wire = line.connection()
    wire.answers(10, b"x" * 500)
    wire.asks(20)
    wire.answers(30, head(1) + b"x")
    found = line.captured()
    assert found.failures == []
    assert [times(e) for e in found.exchanges] == [(20, 30, 30, 30, 30)]


def test_a_port_used_again_is_another_connection(line):
    for stamp, numbers in ((100, (1_000, 5_000)), (200, (900_000_000, 5_500))):
        wire = line.connection(up=numbers[0], down=numbers[1])
        for again in (0, 1):
            wire.packet(stamp + again, True, wire.up - 1, 0, flags=SYN)
        wire.packet(stamp + 2, False, wire.down - 1, wire.up, flags=SYN | ACK)
        wire.asks(stamp + 10)
        wire.answers(stamp + 20, head(2) + b"ab")
        wire.packet(stamp + 30, True, wire.up, wire.down, flags=FIN | ACK)
    found = line.captured()
    assert found.failures == []
    assert [(e.sent_ns, e.last_byte_ns) for e in found.exchanges] == [(110, 120), (210, 220)]


@pytest.mark.parametrize("more", [{"v6": True}, {}])
def test_addresses_of_both_families(line, more):
    wire = line.connection(**more)
    wire.asks(10, host="[::1]:9000" if more else "127.0.0.1:9000")
    wire.answers(20, head(100) + b"x" * 100)
    found = Captured(server=Server("::1" if more else HOST, PORT), interface="lo")
    take(found, segments(line.raw, Conversion(AHEAD_NS, 0), PORT))
    assert [times(e) for e in found.exchanges] == [(10, 20, 20, 20, 20)]


def test_a_packet_too_large_for_its_length_field(line):
    wire = line.connection()
    wire.asks(10)
    wire.answers(20, head(100_000))
    wire.answers(30, b"x" * 60_000)
    wire.answers(40, b"x" * 40_000, zero_length=True)
    assert times(line.captured().exchanges[0]) == (10, 20, 20, 30, 40)


def test_bodies_may_be_cut_and_headers_not(line):
    wire = line.connection(keep=300)
    wire.asks(10)
    wire.answers(20, head(1_000) + b"x" * 500)
    wire.answers(30, b"x" * 500)
    wire.asks(40)
    wire.answers(50, head(3, X_Long="y" * 400) + b"abc")
    found = line.captured()
    assert [times(e) for e in found.exchanges] == [(10, 20, 20, 20, 30)]
    assert found.failures == ["127.0.0.1:40000: GET /b/k: the headers of the response go on after what was captured"]


def test_requests_to_another_host_on_the_port_are_not_ours(line):
    for number, host in enumerate((f"{HOST}:{PORT}", "other.example:9000", f"bucket.{HOST}", HOST)):
        wire = line.connection(40_000 + number)
        wire.asks(number, f"/{number}", host=host)
        wire.answers(100 + number, head(1) + b"x")
    assert [e.path for e in line.captured().exchanges] == ["/0", "/2", "/3"]


@pytest.mark.parametrize("lost", [2, 3])
def test_a_lost_packet_of_a_response_is_told(line, lost):
    wire = line.connection()
    wire.asks(10)
    wire.answers(20, head(300))
    for stamp in (30, 40, 50):
        wire.answers(stamp, b"x" * 100)
    del line.raw[lost]
    found = line.captured()
    assert found.exchanges == []
    assert found.failures == ["127.0.0.1:40000: GET /b/k: the response is incomplete"]


def test_a_lost_request_is_told_by_what_its_neighbour_finds(line):
    wire = line.connection()
    for stamp in (10, 20, 30):
        wire.asks(stamp, f"/b/{stamp}")
        wire.answers(stamp + 5, head(1) + b"x")
    del line.raw[2]
    found = line.captured()
    assert len(found.exchanges) < 3
    assert len(found.failures) == 1


def test_an_answer_that_never_came_is_told(line):
    wire = line.connection()
    wire.asks(10)
    found = line.captured()
    assert found.exchanges == []
    assert found.failures == ["127.0.0.1:40000: GET /b/k: the response is missing"]


def test_requests_before_the_answer_are_refused(line):
    wire = line.connection()
    wire.asks(10, "/b/1")
    wire.asks(11, "/b/2")
    wire.answers(20, head(1) + b"x" + head(1) + b"y")
    found = line.captured()
    assert len(found.exchanges) < 2
    assert found.failures[0] == (
        "127.0.0.1:40000: GET /b/1: the next request does not follow this response: pipelined, or packets are missing"
    )


@pytest.mark.parametrize(
    ("request_bytes", "response", "reason"),
    [
        (b"\x16\x03\x01\x02\r\n\r\n", b"", "what the client sent is no HTTP/1 request"),
        (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n\r\n", "GET /: what the server sent is no HTTP/1 response"),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "GET /: content-length is 'x'"),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"", "a request has a body without length"),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", b"", "invalid header: 'no header'"),
    ],
)
def test_what_cannot_be_followed_is_told(line, request_bytes, response, reason):
    wire = line.connection()
    wire.sends(10, request_bytes)
    if response:
        wire.answers(20, response)
    found = line.captured()
    assert found.exchanges == []
    assert found.failures == [f"127.0.0.1:40000: {reason}"]


# --- clocks


def test_stamps_are_brought_to_the_monotonic_clock():
    steady = clock.between(Reading(1_000, 30), Reading(1_020, 50))
    assert steady == Conversion(1_010, 70)
    assert steady.monotonic(5_010) == 4_000
    before, stamp, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
    now = clock.read()
    assert before - now.error_ns <= clock.between(now, now).monotonic(stamp) <= after + now.error_ns


def test_a_clock_that_was_set_counts_as_error():
    assert clock.between(Reading(0, 10), Reading(5_000_000, 10)).error_ns >= 5_000_000


# --- merged with what a reader recorded


def request(number, sent, last, key="c/0", begin=0, end=100, **more):
    known = {"headers_ns": last - 1, "sent_ns": sent, "last_byte_ns": last, "range": (begin, end), "kind": "data"}
    return Request(id=number, method="GET", key=key, **(known | more))


def recording(requests, chunks=()):
    valid = Validity(ok=True, chunks_wanted=len(chunks), chunks_linked=len(chunks), requests_recorded=len(requests))
    return Timeline(
        reader="r",
        workload={},
        target="t",
        begin_ns=0,
        end_ns=10**6,
        cores=1,
        valid=valid,
        requests=list(requests),
        chunks=list(chunks),
    )


def fetched(line, *gets, prefix="/bucket/demo/small/"):
    """Capture a GET on a connection of its own for each (sent, last, key, begin, end)."""
    for number, (sent, last, key, begin, end) in enumerate(gets):
        wire = line.connection(41_000 + number)
        wire.asks(sent, prefix + key)
        wire.answers(last - 2, partial(begin, end))
        wire.answers(last, b"x" * (end - begin))
    return line.captured()


def test_every_request_gets_its_own_packets(line):
    captured = fetched(
        line, (10, 30, "c/0", 0, 100), (11, 35, "c/0", 100, 200), (12, 28, "c/1", 0, 100), (50, 70, "c/0", 0, 100)
    )
    requests = [
        request(0, 5, 40),
        request(1, 6, 41, begin=100, end=200),
        request(2, 7, 42, key="c/1"),
        request(3, 45, 80),
    ]
    random.Random(2).shuffle(requests)
    merged = merge(recording(requests), captured)
    assert merged.valid.ok
    assert merged.valid.packets_dropped == 0
    assert {r.id: (r.wire.sent_ns, r.wire.first_byte_ns, r.wire.last_byte_ns) for r in merged.requests} == {
        0: (10, 28, 30),
        1: (11, 33, 35),
        2: (12, 26, 28),
        3: (50, 68, 70),
    }
    assert [r.id for r in merged.requests] == [r.id for r in requests]
    assert all(r.wire is None for r in requests)


def test_lag_is_by_how_much_the_reader_is_later(line):
    gets = [(10 + n, 30 + n, f"c/{n}", 0, 100) for n in range(20)]
    captured = fetched(line, *gets)
    requests = [request(n, 9 + n, 30 + n + 2 * n, key=f"c/{n}") for n in range(20)]
    lag = merge(recording(requests), captured).capture.lag
    assert {event: (one.requests, one.median_ns, one.p95_ns) for event, one in lag.items()} == {
        "sent_ns": (20, -1, 1),
        "first_byte_ns": (20, 20, 37),
        "last_byte_ns": (20, 19, 36),
    }
    assert lags([request(0, 1, 2)])["sent_ns"].median_ns is None


def test_a_chunk_has_its_own_bytes_times(line):
    wire = line.connection()
    wire.asks(10, "/b/demo/c/0")
    wire.answers(20, partial(1_000, 1_400))
    for stamp in (30, 40, 50, 60):
        wire.answers(stamp, b"x" * 100)
    chunks = [
        Chunk(chunk=(n,), key="c/0", offset=at, length=size, request=0)
        for n, (at, size) in enumerate([(1_000, 100), (1_100, 150), (1_399, 1)])
    ]
    merged = merge(recording([request(0, 9, 70, begin=1_000, end=1_400)], chunks), line.captured())
    assert [c.wire for c in merged.chunks] == [
        WireTimes(sent_ns=10, first_byte_ns=30, last_byte_ns=30),
        WireTimes(sent_ns=10, first_byte_ns=40, last_byte_ns=50),
        WireTimes(sent_ns=10, first_byte_ns=60, last_byte_ns=60),
    ]


def test_a_chunk_in_two_parts_begins_with_the_first(line):
    captured = fetched(line, (10, 30, "c/0", 0, 100), (12, 50, "c/0", 100, 200))
    requests = [request(0, 5, 60), request(1, 6, 61, begin=100, end=200)]
    merged = merge(recording(requests, [Chunk(chunk=(0,), key="c/0", offset=50, length=100, request=1)]), captured)
    assert merged.chunks[0].wire == WireTimes(sent_ns=10, first_byte_ns=30, last_byte_ns=50)


def test_a_reader_that_does_not_know_its_range_is_matched_last(line):
    captured = fetched(line, (10, 30, "c/0", 9_900, 10_000), (11, 31, "c/0", 0, 100))
    merged = merge(recording([request(0, 5, 40, range=None), request(1, 6, 41)]), captured)
    assert merged.valid.ok
    assert [r.wire.sent_ns for r in merged.requests] == [10, 11]


def test_keys_are_compared_unquoted_and_below_the_arrays(line):
    captured = fetched(line, (10, 30, "c%3D0/0", 0, 100), (11, 31, "zarr.json", 0, 100), prefix="/my/array%20x/")
    merged = merge(recording([request(0, 5, 40, key="c=0/0"), request(1, 5, 40, key="zarr.json")]), captured)
    assert merged.valid.ok


def test_what_has_no_partner_makes_the_recording_invalid(line):
    captured = fetched(line, (10, 30, "c/0", 0, 100), (11, 31, "c/0", 0, 100))
    lonely = merge(recording([request(0, 5, 40), request(1, 5, 40, begin=7, end=8)]), captured)
    assert not lonely.valid.ok
    assert lonely.valid.failures == [
        "1 recorded requests were not captured, first GET c/0 (7, 8)",
        "1 captured requests are not the reader's, first GET /bucket/demo/small/c/0 (0, 100) with status 206",
    ]
    assert merge(recording([request(0, 5, 40)]), Line().captured()).valid.ok is False


def test_a_reader_cannot_see_bytes_before_the_wire(line):
    captured = fetched(line, (10, 30, "c/0", 0, 100))
    merged = merge(recording([request(0, 5, 29, headers_ns=28)]), captured)
    assert merged.valid.failures == ["1 requests have last_byte_ns before the wire has it, first 0: mismatched?"]
    captured.clock_error_ns = 1
    assert merge(recording([request(0, 5, 29, headers_ns=28)]), captured).valid.ok


def test_equal_requests_under_way_are_answered_in_any_order(line):
    """Three crops want the same chunk; the first to ask has its answer last, as under a tail."""
    captured = fetched(line, (10, 90, "c/0", 0, 100), (11, 30, "c/0", 0, 100), (12, 60, "c/0", 0, 100))
    requests = [request(0, 5, 31), request(1, 6, 91), request(2, 7, 61)]
    merged = merge(recording(requests), captured)
    assert merged.valid.failures == []
    assert [r.wire.last_byte_ns for r in merged.requests] == [30, 90, 60]


@given(st.randoms(use_true_random=False), st.integers(2, 12))
def test_any_order_of_answers_to_equal_requests_has_its_partners(chance, count):
    """Whatever the lags: each reader saw its own answer after the wire did, so there is an assignment."""
    answers = [(100 + 10 * n, chance.randrange(1_000, 5_000)) for n in range(count)]
    captured = fetched(Line(), *((sent, last, "c/0", 0, 100) for sent, last in answers))
    requests = [
        request(n, sent - 5, last + (lag := chance.randrange(2, 2_000)), headers_ns=last + lag - 1)
        for n, (sent, last) in enumerate(answers)
    ]
    chance.shuffle(requests)
    merged = merge(recording(requests), captured)
    assert merged.valid.failures == []
    assert len({r.wire.sent_ns for r in merged.requests}) == count


def test_equal_requests_that_cannot_all_be_right_are_still_found(line):
    captured = fetched(line, (10, 90, "c/0", 0, 100), (11, 95, "c/0", 0, 100))
    merged = merge(recording([request(0, 5, 50), request(1, 6, 96)]), captured)
    assert [failure.partition(" before")[0] for failure in merged.valid.failures] == [
        "1 requests have first_byte_ns",
        "1 requests have last_byte_ns",
    ]


def test_dropped_packets_and_earlier_failures_stay(line):
    captured = fetched(line, (10, 30, "c/0", 0, 100))
    captured.packets_dropped = 3
    before = recording([request(0, 5, 40)])
    before.valid.failures.append("of the reader's own")
    merged = merge(before, captured)
    assert (merged.valid.ok, merged.valid.packets_dropped) == (False, 3)
    assert merged.valid.failures == ["of the reader's own"]


# --- live, on this machine


class Store(NamedTuple):
    """A live target and what is in it."""

    target: Target
    store: object
    size: int


@pytest.fixture(scope="module")
def target(embedded_store):
    live = resolve("embedded")
    if reason := why_not(live):
        pytest.skip(reason)
    create("--preset", "tiny")
    return live


@pytest.fixture
def objects(target, s3):
    size = 4 << 20
    body = random.Random(3).randbytes(size)
    for number in range(4):
        s3.put_object(Bucket=target.bucket, Key=f"wire/o{number}", Body=body)
    return Store(target, open_store(target, prefix="wire"), size)


def ranges(count, size, seed=4):
    draw = random.Random(seed)
    begins = [draw.randrange(size - 70_000) for _ in range(count)]
    return [(f"o{draw.randrange(4)}", begin, begin + draw.randrange(1, 70_000)) for begin in begins]


def read(store, gets, in_flight=100):
    async def one(permits, key, begin, end):
        async with permits:
            return len(await store.get_range_async(key, start=begin, end=end))

    async def every():
        permits = asyncio.Semaphore(in_flight)
        return await asyncio.gather(*(one(permits, *get) for get in gets))

    return asyncio.run(every())


@pytest.fixture
def measured(objects, control):
    """A thousand ranges, a hundred in flight: what was asked, what was captured, and the store's log."""
    gets = ranges(1_000, objects.size)
    read(objects.store, gets[:100])
    control.mark("wire", log=True)
    with capture(objects.target) as captured:
        read(objects.store, gets)
    return gets, captured, control.since("wire"), control.requests("wire")


def test_the_capture_and_the_store_saw_the_same_requests(measured, objects):
    gets, captured, counted, log = measured
    assert captured.failures == []
    assert captured.packets_dropped == 0
    assert len(captured.exchanges) == counted.requests == len(gets)
    asked = Counter((f"/{objects.target.bucket}/wire/{key}", (begin, end)) for key, begin, end in gets)
    assert Counter((e.path, e.range) for e in captured.exchanges) == asked
    assert Counter((f"/{one.bucket}/{one.key}", one.range) for one in log) == asked
    assert sum(e.bytes for e in captured.exchanges) == counted.bytes_out
    assert len({e.connection for e in captured.exchanges}) == len({one.connection for one in log})


def test_the_capture_and_the_store_agree_on_the_order_of_events(measured):
    _, captured, _, log = measured
    stored = {(f"/{one.bucket}/{one.key}", one.range): one for one in log}
    pairs = [(e, stored[e.path, e.range]) for e in captured.exchanges]
    error = captured.clock_error_ns
    for exchange, one in pairs:
        sent, response, headers, first, last = times(exchange)
        assert sent <= response <= headers <= first <= last
        # A packet is on the wire before the store gets its request, and after it began to answer.
        assert sent - error <= one.received_ns <= response + error
    # The store's stamps follow the system call that hands bytes over, which puts them on a loopback wire at once,
    # unless the connection's window is full.
    for wire, own in (("response_ns", "first_byte_ns"), ("last_byte_ns", "last_byte_ns")):
        early = sum(getattr(exchange, wire) <= getattr(one, own) + error for exchange, one in pairs)
        assert early >= 0.9 * len(pairs)


@pytest.fixture
def tcpdump(tmp_path, target):
    """Another program's capture of the same packets, in parallel; returns its file when it has ended."""
    port = int(target.endpoint.rpartition(":")[2])
    file = tmp_path / "other.pcap"

    @contextlib.contextmanager
    def running():
        options = [
            "-i",
            "lo",
            "-w",
            str(file),
            "-B",
            "65536",
            "-s",
            "300",
            "-U",
            "--immediate-mode",
            "--time-stamp-precision=nano",
        ]
        try:
            process = subprocess.Popen(
                ["tcpdump", *options, "tcp", "port", str(port)], stderr=subprocess.PIPE, text=True
            )
        except FileNotFoundError:
            pytest.skip("tcpdump is not installed")
        assert process.stderr is not None
        for line in process.stderr:
            if "listening on" in line:
                break
        else:
            pytest.skip("tcpdump may not capture here")
        yield file
        time.sleep(1)  # what it has not read yet is lost when it ends
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=30)[1]
        assert "0 packets dropped by kernel" in told

    return running


def requests_in(file, port):
    """Return connection and path of each GET with the realtime stamps of its packet and of the next from the server."""
    found, waiting = [], {}
    with file.open("rb") as opened:
        for stamp, frame in dpkt.pcap.Reader(opened):
            ip = dpkt.ethernet.Ethernet(frame).data
            tcp = ip.data
            payload = ip.len - ip.hl * 4 - tcp.off * 4
            stamp_ns = int(stamp * 10**9)
            if tcp.dport == port and bytes(tcp.data).startswith(b"GET "):
                asked = bytes(tcp.data).split(b" ", 2)[1].decode()
                waiting[tcp.sport] = [tcp.sport, asked, stamp_ns, None]
                found.append(waiting[tcp.sport])
            elif tcp.sport == port and payload and tcp.dport in waiting:
                waiting[tcp.dport][3] = waiting[tcp.dport][3] or stamp_ns
    return found


@pytest.mark.alone
def test_another_capture_agrees(objects, tcpdump):
    gets = ranges(500, objects.size, seed=5)
    read(objects.store, gets[:100])
    with tcpdump() as file, capture(objects.target) as captured:
        read(objects.store, gets)
    others = requests_in(file, captured.server.port)
    ours = [(int(e.connection.rpartition(":")[2]), e.path, e.sent_ns, e.response_ns) for e in captured.exchanges]
    assert len(others) == len(ours) == len(gets)
    pairs = list(zip(sorted(others, key=lambda r: (r[0], r[2])), sorted(ours, key=lambda r: (r[0], r[2])), strict=True))
    assert all(other[:2] == list(our[:2]) for other, our in pairs)
    ahead = clock.read().ahead_ns
    differences = [abs(other[at] - ahead - our[at]) for other, our in pairs for at in (2, 3)]
    waits = statistics.median(our[3] - our[2] for _, our in pairs)
    p95 = sorted(differences)[math.ceil(0.95 * len(differences)) - 1]
    print(f"difference of the captures: median {statistics.median(differences)} ns, p95 {p95} ns; wait {waits} ns")
    assert p95 < waits / 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "parameters"), [("chunks_of_many_shards", Parameters(shards=4)), ("whole_array", Parameters())]
)
@pytest.mark.parametrize("reader", ["zarr-python+obstore", "zarr-python+fsspec"])
def test_a_readers_recording_gets_the_wires_times(target, reader, pattern, parameters):
    workload = create_workload(pattern, target, dataset="small", parameters=parameters)
    merged = record_timeline(reader, workload, pairs=0, capture=capture)
    assert merged.valid.failures == []
    assert (merged.valid.ok, merged.valid.packets_dropped) == (True, 0)
    assert all(r.wire is not None for r in merged.requests)
    assert all(lag.requests == len(merged.requests) for event, lag in merged.capture.lag.items() if event != "sent_ns")
    assert all(c.wire.sent_ns < c.wire.first_byte_ns <= c.wire.last_byte_ns <= c.last_byte_ns for c in merged.chunks)
    written = msgspec.json.encode(merged)
    assert msgspec.json.encode(decode(written)) == written


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "parameters"), [("chunks_of_many_shards", Parameters(shards=4)), ("whole_array", Parameters())]
)
@pytest.mark.parametrize(("plan", "indexes_each"), [("exact", 1), ("whole", 0)])
def test_a_reader_without_hooks_has_the_wires_timeline(target, monkeypatch, pattern, parameters, plan, indexes_each):
    # Which of the limit's plans is the fastest is chance here.
    monkeypatch.setattr(timelines._Session, "_tried", lambda self, variant: float(variant != plan))
    workload = create_workload(pattern, target, dataset="small", parameters=parameters)
    alone = record_timeline(NETWORK_LIMIT, workload, pairs=0, capture=capture)
    assert alone.valid.failures == []
    assert alone.valid.chunks_linked == workload.wanted_chunks == len({c.chunk for c in alone.chunks})
    assert alone.valid.requests_recorded == alone.valid.requests_counted
    assert Counter(r.kind for r in alone.requests)["index"] == indexes_each * workload.wanted_shards
    assert any(repr(plan) in note for note in alone.notes)
    by_id = {r.id: r for r in alone.requests}
    for chunk in alone.chunks:
        brought = by_id[chunk.request]
        assert brought.sent_ns == chunk.sent_ns < chunk.first_byte_ns <= chunk.last_byte_ns <= brought.last_byte_ns
        assert (chunk.decode_start_ns, chunk.copied_ns) == (None, None)
    assert any("events 4 and 5" in note for note in alone.notes)


def test_a_capture_ends_where_a_reader_cannot_open_its_workload(target):
    ended = []

    @contextlib.contextmanager
    def capturing(_):
        try:
            yield Captured(server=SERVER, interface="lo")
        finally:
            ended.append(True)

    workload = create_workload("chunks_of_one_shard", target, dataset="small", parameters=Parameters(gap=1))
    missing = msgspec.structs.replace(workload, array=msgspec.structs.replace(workload.array, key="not/there"))
    with pytest.raises(MeasurementError):
        record_timeline("zarr-python+obstore", missing, pairs=0, capture=capturing)
    assert ended == [True]


def test_chunks_read_twice_belong_to_two_requests(target):
    workload = create_workload("chunks_of_one_shard", target, dataset="small", parameters=Parameters(gap=1))
    line = Line()
    key = f"/{target.bucket}/{'/'.join(filter(None, (target.prefix, workload.array.key)))}/c/0"
    for stamp in (10, 50):
        wire = line.connection(40_000 + stamp)
        wire.asks(stamp, key, Range="bytes=0-99")
        wire.answers(stamp + 10, partial(0, 100) + b"x" * 100)
    want = [Wanted((0,), "c/0", 0, 60), Wanted((1,), "c/0", 60, 40)] * 2
    both = from_wire(workload, line.captured(), want=want)
    assert both.valid.ok
    assert sorted((c.chunk, c.request, c.sent_ns) for c in both.chunks) == [
        ((0,), 0, 10),
        ((0,), 1, 50),
        ((1,), 0, 10),
        ((1,), 1, 50),
    ]
    lacking = from_wire(workload, line.captured(), want=[*want, Wanted((2,), "c/0", 90, 20)])
    assert lacking.valid.failures[0] == "1 of 5 chunks have no request"


def test_nothing_captured_is_no_timeline(target):
    workload = create_workload("chunks_of_one_shard", target, dataset="small", parameters=Parameters(gap=1))
    with capture(target) as captured:
        pass
    with pytest.raises(MeasurementError, match=r"no request to 127\.0\.0\.1:\d+ was captured"):
        from_wire(workload, captured)


def test_a_ring_that_is_too_small_says_what_it_lost(objects, monkeypatch):
    monkeypatch.setattr(ring, "BLOCKS", 2)
    monkeypatch.setattr(ring, "BLOCK_BYTES", 1 << 14)
    copy = PacketRing._copy
    # Nobody empties it while the reader reads.
    monkeypatch.setattr(PacketRing, "_copy", lambda self: (self._stopping.wait(), copy(self))[1])
    with capture(objects.target) as captured:
        read(objects.store, ranges(200, objects.size))
    assert captured.packets_dropped > 0
    assert captured.packets > 0
    assert captured.failures or len(captured.exchanges) < 200


def test_a_capture_the_system_refuses_is_one_line(target, monkeypatch):
    monkeypatch.setattr(ring, "BLOCK_BYTES", 5_000)  # no multiple of a page
    with (
        pytest.raises(MeasurementError, match=r"^packets cannot be captured on lo: Invalid argument$"),
        capture(target),
    ):
        pytest.fail("entered")
    monkeypatch.undo()
    with pytest.raises(MeasurementError, match=r"^packets cannot be captured on nowhere: No such device$"):
        PacketRing("nowhere", PORT, loopback=False)


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def dribbling(request):
    """A server that sends its answer in packets of given sizes; yields a function that sets them, and the target."""
    host = "127.0.0.1" if request.param == socket.AF_INET else "::1"
    parts: list[bytes] = []
    try:
        listening = socket.create_server((host, 0), family=request.param)
    except OSError as error:
        pytest.skip(f"no address {host}: {error}")
    port = listening.getsockname()[1]
    target = Target(name="dribble", url="s3://b", endpoint=f"http://{f'[{host}]' if ':' in host else host}:{port}")
    if reason := why_not(target):
        pytest.skip(reason)

    def serve():
        with contextlib.suppress(OSError):
            connected, _ = listening.accept()
            with connected:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while connected.recv(65536):
                    for part in parts:
                        connected.sendall(part)
                        time.sleep(0.002)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield target, host, port, parts
    listening.close()
    thread.join(10)
    assert not thread.is_alive()


def test_the_filter_keeps_the_smallest_packets_and_cuts_bodies(dribbling):
    target, host, port, parts = dribbling
    body = bytes(range(256)) * 16
    whole = head(len(body))
    parts += [whole[:7], whole[7:8], whole[8:-1], whole[-1:], body[:1], body[1:3], body[3:6], body[6:]]
    client = http.client.HTTPConnection(host, port, timeout=10)
    with capture(target) as captured:
        for _ in range(3):
            client.request("GET", "/b/k")
            assert client.getresponse().read() == body
    client.close()
    assert captured.failures == []
    assert len(captured.exchanges) == 3
    for exchange in captured.exchanges:
        assert exchange.bytes == len(body)
        stamps = [exchange.response_ns, exchange.headers_ns, *(exchange.arrived_ns(at) for at in (0, 1, 3, 6))]
        assert stamps == sorted(set(stamps))  # each packet has its own
        assert exchange.arrived_ns(2) == exchange.arrived_ns(1)


def test_the_kernel_keeps_no_more_than_the_filter_says(objects):
    size = 1 << 20
    server = objects.target.endpoint.rpartition(":")[2]
    with PacketRing("lo", int(server), loopback=True) as running:
        read(objects.store, [("o0", 0, size)])
    kept = list(running.packets())
    parsed = [dpkt.ip.IP(raw.data) for raw in kept]
    heads = [ip for ip in parsed if bytes(ip.data.data).startswith((b"HTTP", b"GET "))]
    assert len(heads) == 2
    bodies = [raw for raw, ip in zip(kept, parsed, strict=True) if ip not in heads]
    assert bodies
    assert all(len(raw.data) <= bpf.BODY_BYTES for raw in bodies)
    assert all(len(raw.data) <= bpf.REQUEST_BYTES for raw in kept)
    assert sum(raw.length for raw in kept) > size
    assert all(raw.length > 52 or ip.data.flags & (SYN | FIN) for raw, ip in zip(kept, parsed, strict=True))


@pytest.fixture
def elsewhere(tmp_path):
    """An HTTP server in a network namespace behind a pair of virtual interfaces: a file's path and the target."""
    name, ours, theirs = (f"zcb{kind}{os.getpid() % 100_000}" for kind in ("n", "a", "b"))
    commands = [
        f"ip netns add {name}",
        f"ip link add {ours} type veth peer name {theirs} netns {name}",
        f"ip address add 10.213.77.1/30 dev {ours}",
        f"ip link set {ours} up",
        f"ip -n {name} address add 10.213.77.2/30 dev {theirs}",
        f"ip -n {name} link set {theirs} up",
    ]
    server = None
    try:
        for command in commands:
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"{command}: {done.stderr.strip()}")
        (tmp_path / "object").write_bytes(random.Random(6).randbytes(3_000_000))
        serve = [sys.executable, "-u", "-m", "http.server", "--protocol", "HTTP/1.1", "--bind", "10.213.77.2", "9000"]
        server = subprocess.Popen(
            ["ip", "netns", "exec", name, *serve],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert server.stdout is not None
        assert "Serving" in server.stdout.readline()
        yield tmp_path / "object", Target(name="veth", url="s3://b", endpoint="http://10.213.77.2:9000"), ours
    finally:
        if server is not None:
            server.terminate()
            server.wait(10)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", ours], capture_output=True, check=False)


def test_on_an_interface_both_directions_are_seen_once(elsewhere):
    file, target, interface = elsewhere
    client = http.client.HTTPConnection("10.213.77.2", 9000, timeout=10)
    with capture(target) as captured:
        for _ in range(5):
            client.request("GET", "/object")
            assert client.getresponse().read() == file.read_bytes()
    client.close()
    size = file.stat().st_size
    assert captured.interface == interface
    assert captured.failures == []
    assert [(e.path, e.status, e.bytes) for e in captured.exchanges] == [("/object", 200, size)] * 5
    assert all(e.sent_ns < e.response_ns <= e.headers_ns <= e.last_byte_ns for e in captured.exchanges)
    with PacketRing(interface, 9000, loopback=False) as running:
        again = http.client.HTTPConnection("10.213.77.2", 9000, timeout=10)
        again.request("GET", "/object")
        again.getresponse().read()
        again.close()
    assert size < sum(raw.length for raw in running.packets()) < 1.2 * size


# --- what cannot be captured


@pytest.mark.parametrize(
    "target",
    [
        Target(name="cloud", url="s3://bucket"),
        Target(name="tls", url="s3://bucket", endpoint="https://store.example"),
    ],
)
def test_encrypted_traffic_is_refused_with_the_reason(target):
    expected = f"the packets to target '{target.name}' cannot be read: its traffic is encrypted (https)"
    assert why_not(target) == expected
    with pytest.raises(BadUseError, match="encrypted"), capture(target):
        pytest.fail("entered")


def test_without_the_privilege_the_reason_is_one_line():
    code = (
        "import json; from harness.targets.resolve import Target; from harness.timeline.wire import why_not\n"
        "print(json.dumps(why_not(Target(name='t', url='s3://b', endpoint='http://127.0.0.1:9000'))))"
    )

    def give_up_raw_sockets():
        drop_from_bounding_set, cap_net_raw = 24, 13
        if os.geteuid() == 0:
            assert ctypes.CDLL(None).prctl(drop_from_bounding_set, cap_net_raw) == 0

    done = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=give_up_raw_sockets, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == (
        "capturing packets needs the privilege CAP_NET_RAW: run as root, or leave the wire out"
    )
