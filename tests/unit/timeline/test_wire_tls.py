"""TLS on the wire: real records in packets of known stamps, then live captures against the store's own log."""

import contextlib
import datetime
import http.client
import json
import ssl
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness.measure.timelines import record_timeline
from harness.paths import ROOT
from harness.results.sample import NETWORK_LIMIT
from harness.store import lifecycle, state
from harness.store.control import StoreControl
from harness.store.lifecycle import StoreSettings
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.timeline.wire import capture, why_not
from harness.timeline.wire.captured import Captured
from harness.timeline.wire.capturing import take
from harness.timeline.wire.clock import Conversion
from harness.timeline.wire.packets import segments
from harness.timeline.wire.tls import read_key_log
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.unit.timeline.test_wire import AHEAD_NS, PORT, SERVER, Line, head, read

BODIES = [b"", b"x" * 100, b"y" * 50_000]
SUITES = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    plain = serialization.NoEncryption()
    path.write_bytes(made + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return path


class Talk:
    """A client and a server that speak TLS by OpenSSL, in packets of at most `packet` bytes, one per nanosecond."""

    def __init__(self, certificate, key_log, packet, version=ssl.TLSVersion.TLSv1_3):
        self.line, self.packet, self.now = Line(), packet, 0
        self.wire = self.line.connection()
        ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_verify_locations(certificate)
        theirs.load_cert_chain(certificate)
        ours.check_hostname, ours.maximum_version = False, version
        theirs.keylog_filename = str(key_log)
        bios = [ssl.MemoryBIO() for _ in range(4)]
        self.client, self.server = ours.wrap_bio(bios[0], bios[1]), theirs.wrap_bio(bios[2], bios[3], server_side=True)
        self.from_server, self.of_client, self.from_client, self.of_server = bios
        for _ in range(4):
            for end in (self.client, self.server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
                self.carry()

    def carry(self):
        """Bring what was written to the other side, packet by packet."""
        ways = (
            (self.of_client, self.from_client, self.wire.sends),
            (self.of_server, self.from_server, self.wire.answers),
        )
        for out, into, packets in ways:
            while sent := out.read(self.packet):
                self.now += 1
                packets(self.now, sent)
                into.write(sent)

    def asks(self, path, body):
        """Return the stamps of the packets that end the request, the response's headers, and each of its records."""
        self.client.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\n\r\n".encode())
        self.carry()
        stamps = [self.now]
        for content in [head(len(body)), *(body[at : at + 16_384] for at in range(0, len(body), 16_384))]:
            self.server.write(content)
            self.carry()
            stamps.append(self.now)
        received = b""
        while len(received) < len(head(len(body)) + body):
            received += self.client.read(1 << 20)
        return stamps

    def captured(self, key_log, raw=None):
        found = Captured(server=SERVER, interface="lo")
        take(
            found, segments(self.line.raw if raw is None else raw, Conversion(AHEAD_NS, 0), PORT), read_key_log(key_log)
        )
        return found


@pytest.mark.parametrize("packet", [1, 7, 1_460, 65_000])
def test_a_byte_arrives_with_the_packet_that_ends_its_record(certificate, tmp_path, packet):
    talk = Talk(certificate, tmp_path / "keys", packet)
    stamps = [talk.asks(f"/b/{number}", body) for number, body in enumerate(BODIES)]
    captured = talk.captured(tmp_path / "keys")
    assert captured.failures == []
    for number, (exchange, (sent, headers, *records)) in enumerate(zip(captured.exchanges, stamps, strict=True)):
        assert (exchange.path, exchange.status, exchange.bytes) == (f"/b/{number}", 200, len(BODIES[number]))
        assert (exchange.sent_ns, exchange.response_ns, exchange.headers_ns) == (sent, headers, headers)
        assert exchange.first_byte_ns == (records[0] if records else None)
        assert exchange.last_byte_ns == ([headers, *records])[-1]
        ends = [min(end, exchange.bytes) for end in range(16_384, exchange.bytes + 16_384, 16_384)]
        assert [exchange.arrived_ns(end - 1) for end in ends] == records


def test_the_first_of_what_was_sent_twice_counts_and_order_does_not(certificate, tmp_path):
    talk = Talk(certificate, tmp_path / "keys", 1_460)
    talk.asks("/b/k", BODIES[2])
    raw = talk.line.raw
    later = [packet._replace(realtime_ns=packet.realtime_ns + 10**6) for packet in raw]
    once, twice = talk.captured(tmp_path / "keys"), talk.captured(tmp_path / "keys", [*reversed(raw), *later])
    assert once.failures == twice.failures == []
    assert once.exchanges == twice.exchanges


def test_requests_before_the_execution_are_left_out(certificate, tmp_path):
    talk = Talk(certificate, tmp_path / "keys", 1_460)
    stamps = [talk.asks(path, b"x") for path in ("/b/before", "/b/after")]
    found = Captured(server=SERVER, interface="lo", since_ns=stamps[0][-1] + 1)
    take(found, segments(talk.line.raw, Conversion(AHEAD_NS, 0), PORT), read_key_log(tmp_path / "keys"))
    assert [exchange.path for exchange in found.exchanges] == ["/b/after"]
    found.begin()
    take(found, segments(talk.line.raw, Conversion(AHEAD_NS, 0), PORT), read_key_log(tmp_path / "keys"))
    assert found.exchanges == []


def test_a_connection_on_which_nothing_was_asked_is_nothing(certificate, tmp_path):
    talk = Talk(certificate, tmp_path / "keys", 1_460)
    hello = talk.line.raw[:1]
    assert talk.captured(tmp_path / "keys", hello).failures == []
    assert (talk.captured(tmp_path / "keys").failures, talk.captured(tmp_path / "keys").exchanges) == ([], [])


def test_what_cannot_be_opened_is_said(certificate, tmp_path):
    def failure(keys, raw):
        (found,) = talk.captured(keys, raw).failures
        return found.removeprefix("127.0.0.1:40000: ")

    talk = Talk(certificate, tmp_path / "keys", 1_460)
    greeted = len(talk.line.raw)
    talk.asks("/b/k", BODIES[2])
    raw, keys = talk.line.raw, (tmp_path / "keys").read_text().splitlines()
    (tmp_path / "other").write_text("CLIENT_HANDSHAKE_TRAFFIC_SECRET 00 00\n")
    assert failure(tmp_path / "other", raw) == "its secrets are not in the key log"
    (tmp_path / "some").write_text("\n".join(line for line in keys if not line.startswith("SERVER_TRAFFIC")) + "\n")
    assert failure(tmp_path / "some", raw) == "the key log lacks its SERVER_TRAFFIC_SECRET_0"
    wrong = [line[:-2] + "00" if line.startswith("SERVER_TRAFFIC") else line for line in keys]
    (tmp_path / "wrong").write_text("\n".join(wrong) + "\n")
    assert failure(tmp_path / "wrong", raw) == "a record cannot be opened by the key log"
    assert failure(tmp_path / "keys", [*raw[:-5], *raw[-4:]]) == "packets are missing"
    cut = raw[-1]._replace(data=raw[-1].data[:60])
    assert failure(tmp_path / "keys", [*raw[:-1], cut]) == "its packets were not captured whole"
    assert failure(tmp_path / "keys", raw[greeted:]) == "it began before the capture"
    small = Talk(certificate, tmp_path / "small", 7)
    small.asks("/b/k", b"x")
    said = failure(tmp_path / "small", small.line.raw[1:])
    assert said == "what was sent is no TLS, or the connection began before the capture"


def test_tls_before_1_3_is_not_followed(certificate, tmp_path):
    talk = Talk(certificate, tmp_path / "keys", 1_460, ssl.TLSVersion.TLSv1_2)
    talk.asks("/b/k", b"x")
    (found,) = talk.captured(tmp_path / "keys").failures
    assert found.endswith("only TLS 1.3 is followed")


# --- live, on this machine


@pytest.fixture(scope="module")
def target(store_binary, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZCB_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        lifecycle.start(StoreSettings(profile="loopback", tls=True, key_log=True))
        try:
            live = resolve("embedded:loopback+tls")
            if reason := why_not(live):
                pytest.skip(reason)
            # In a process of its own: what trusts by the environment does so for good.
            create = ["data", "create", "--target", "embedded", "--preset", "tiny"]
            subprocess.run([sys.executable, "-m", "harness.cli", *create], check=True, cwd=ROOT)
            yield live
        finally:
            lifecycle.stop()


def test_the_capture_and_the_store_saw_the_same(target):
    size = 1 << 20
    gets = [("o0", begin, begin + 1 + begin % 70_000) for begin in range(0, size - 70_000, 4_567)]
    with StoreControl(state.require_running().control) as control, capture(target) as captured:
        store = open_store(target, prefix="wire")
        obstore.put(store, "o0", bytes(size))
        control.mark("wire", log=True)
        captured.begin()
        read(store, gets)
        counted, log = control.since("wire"), control.requests("wire")
    assert (captured.failures, captured.packets_dropped) == ([], 0)
    assert len(captured.exchanges) == counted.requests == len(gets)
    assert Counter((e.path, e.range) for e in captured.exchanges) == Counter(
        (f"/{o.bucket}/{o.key}", o.range) for o in log
    )
    assert sum(e.bytes for e in captured.exchanges) == counted.bytes_out
    assert all(e.sent_ns < e.response_ns <= e.first_byte_ns <= e.last_byte_ns for e in captured.exchanges)


def test_an_older_connection_that_only_ends_is_no_failure(target):
    context = ssl.create_default_context(cafile=target.ca)
    client = http.client.HTTPSConnection(urlsplit(target.service_url).netloc, context=context, timeout=60)
    client.request("GET", "/bench/tiny/small/zarr.json")
    client.getresponse().read()
    with capture(target) as captured:
        client.sock.unwrap()
        client.close()
    assert captured.packets > 0
    assert (captured.failures, captured.exchanges) == ([], [])


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_of_tls_1_3_is_opened(target, tmp_path, suite):
    config = tmp_path / "openssl.cnf"
    config.write_text(f"openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nCiphersuites={suite}\n")
    code = (
        "import http.client, ssl, sys\n"
        "context = ssl.create_default_context(cafile=sys.argv[2])\n"
        "connection = http.client.HTTPSConnection(sys.argv[1], context=context, timeout=60)\n"
        "connection.request('GET', '/bench/tiny/small/zarr.json')\n"
        "print(connection.getresponse().read() and connection.sock.cipher()[0])\n"
    )
    command = [sys.executable, "-c", code, urlsplit(target.service_url).netloc, target.ca]
    with capture(target) as captured:
        spoken = subprocess.run(command, env={"OPENSSL_CONF": str(config)}, capture_output=True, text=True, check=True)
    assert spoken.stdout.strip() == suite
    assert captured.failures == []
    assert [(e.path, e.status) for e in captured.exchanges] == [("/bench/tiny/small/zarr.json", http.HTTPStatus.OK)]


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["zarr-python+obstore", "zarr-python+fsspec", "tensorstore", NETWORK_LIMIT])
def test_a_readers_recording_gets_the_wires_times(target, reader):
    workload = create_workload("chunks_of_many_shards", target, dataset="tiny/small", parameters=Parameters(shards=4))
    timeline = record_timeline(reader, workload, pairs=0, capture=capture)
    assert timeline.valid.failures == []
    assert timeline.valid.requests_recorded == timeline.valid.requests_counted == len(timeline.requests)
    assert all(request.wire is not None for request in timeline.requests)
    assert {chunk.chunk for chunk in timeline.chunks if chunk.wire is None} == set()


def test_without_the_keys_the_reason_names_what_keeps_them(own_state):
    lifecycle.start(StoreSettings(profile="loopback", tls=True))
    live = resolve("embedded")
    expected = f"the packets to target '{live.name}' cannot be read: its traffic is encrypted (https): "
    assert why_not(live) == expected + "`zcb store start --tls --key-log` keeps its keys"


def test_keys_are_the_owners_alone_and_go_with_the_store(own_state):
    def ask():
        connection = http.client.HTTPSConnection(
            urlsplit(running.endpoint).netloc, context=ssl.create_default_context(cafile=running.ca), timeout=60
        )
        connection.request("GET", "/")
        assert connection.getresponse().status == http.HTTPStatus.OK
        connection.close()

    settings = StoreSettings(profile="loopback", tls=True, key_log=True)
    running = lifecycle.start(settings)
    log = Path(running.key_log)
    ask()
    assert (log.stat().st_mode & 0o777, len(read_key_log(log))) == (0o600, 1)
    lifecycle.stop()
    running = lifecycle.start(settings)
    assert read_key_log(log) == {}
    lifecycle.stop()
    running = lifecycle.start(StoreSettings(profile="loopback", tls=True))
    ask()
    assert (running.key_log, log.exists()) == (None, False)


def test_keys_without_tls_are_refused(own_state):
    command = [sys.executable, "-m", "harness.cli", "store", "start", "--key-log"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "zcb: --key-log keeps the secrets of TLS: give --tls too\n")
    status = subprocess.run([*command[:-2], "status", "--json"], capture_output=True, text=True, check=False)
    assert json.loads(status.stdout) == {"schema": 1, "running": False}
