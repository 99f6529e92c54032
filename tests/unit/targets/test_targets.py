"""Targets: what may stand in targets.toml and in a URL, and what becomes of it in each library's requests."""

import http.client
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import aiohttp
import msgspec
import psutil
import pytest
import tensorstore
from obstore.exceptions import GenericError, PermissionDeniedError

from harness.errors import BadUseError, StoreError
from harness.machine import network
from harness.machine.network import NicCounters
from harness.measure.conductor import Conductor, Plan
from harness.measure.evidence import Probe
from harness.readers import benchmarked, reader_class
from harness.store import lifecycle
from harness.store.lifecycle import StoreSettings
from harness.store.state import Profile
from harness.targets.client import open_store, reaching
from harness.targets.fsspec import fsspec_location
from harness.targets.obstore import obstore_store
from harness.targets.resolve import resolve, store_flags
from harness.targets.target import Target
from harness.targets.tensorstore import tensorstore_location
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from setup_data import presets, repository, write
from tests.conftest import s3_client

PAYER = "x-amz-request-payer"
NIC = next(iter(psutil.net_if_addrs()))


@pytest.fixture
def named(tmp_path, monkeypatch):
    """Resolve a target whose table has these lines."""

    def resolved(*lines):
        (tmp_path / "targets.toml").write_text("\n".join(["[place]", *lines]))
        monkeypatch.setenv("ZCB_TARGETS", str(tmp_path / "targets.toml"))
        return resolve("place")

    return resolved


@pytest.mark.parametrize(
    ("lines", "identity", "service", "prefix"),
    [
        (['url = "s3://b/p/q/"'], "place", "https://b.s3.us-east-1.amazonaws.com", "p/q"),
        (['url = "s3://b"', 'region = "eu-west-1"'], "place", "https://b.s3.eu-west-1.amazonaws.com", ""),
        (['url = "gs://b/p"'], "place", "https://storage.googleapis.com", "p"),
        (['url = "gs://b/p"', 'endpoint = "http://h:1"'], "place", "http://h:1", "p"),
        (['url = "az://c/p"', 'account = "me"'], "place@me", "https://me.blob.core.windows.net", "p"),
        (['url = "https://host/p/q"'], "place", "https://host", "p/q"),
        (['url = "http://[::1]:8080/p"'], "place", "http://[::1]:8080", "p"),
    ],
)
def test_what_a_table_means(named, lines, identity, service, prefix):
    target = named(*lines)
    assert (target.identity, target.service_url, target.prefix) == (identity, service, prefix)
    assert target.anonymous == target.is_http


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (['url = "ftp://host/x"'], "is none of s3://bucket/prefix, gs://"),
        (['url = "s3:///x"'], "not of the form s3://bucket/prefix"),
        (['url = "bucket"'], "not of the form"),
        (['url = "s3://b:9000/x"'], "an endpoint has one, a bucket has not"),
        (['url = "s3://b/x/../y"'], "in its path"),
        (['url = "s3://b/x//y"'], "in its path"),
        (['url = "s3://b/a b"'], "white space"),
        (['url = "s3://b/x\\u0007"'], "unprintable"),
        (['url = "https://host:x/y"'], "is no URL"),
        (['url = "https://[::1/y"'], "is no URL"),
        (['url = "https://host/x?signature=secret"'], "query"),
        (['url = "https://me:secret@host/x"'], "user"),
        (['url = "s3://b/x#y"'], "without user, query or fragment"),
        (['url = "az://c/x"'], "account in targets.toml, or AZURE_STORAGE_ACCOUNT_NAME"),
        (['url = "s3://b"', 'account = "me"'], "account means nothing for s3://"),
        (['url = "gs://b"', 'region = "eu"'], "region means nothing for gs://"),
        (['url = "gs://b"', "requester_pays = true"], "requester_pays means nothing for gs://"),
        (['url = "https://h/x"', 'endpoint = "http://h"'], "endpoint means nothing for https://"),
        (['url = "s3://b"', 'endpoint = "h:9000"'], "'h:9000'"),
        (['url = "s3://b"', 'endpoint = "http://me:secret@h"'], "user"),
        (['url = "s3://b"', "anonymous = true", "requester_pays = true"], "exclude each other"),
        (['url = "s3://b"', 'endpoint = "http://h"', 'ca = "ca.pem"'], "ca means nothing for http://h"),
        (['url = "s3://b"', 'ca = "none.pem"'], "cannot read ca"),
        (['url = "s3://b"', 'ca = "targets.toml"'], "holds no certificate (PEM)"),
        (['url = "s3://b"', 'nic = "none0"'], "nic 'none0' is no interface of this machine"),
        (['url = "s3://b"', "nic = 3"], "nic"),
        (['url = "s3://b"', 'requester_pays = "yes"'], "requester_pays"),
        (['url = "s3://b"', 'acount = "me"'], "acount"),
        (['region = "eu-west-1"'], "url"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(named, monkeypatch, lines, complaint):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(BadUseError) as error:
        named(*lines)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_an_authority_stands_beside_the_table_and_is_no_part_of_the_work(named, tmp_path):
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    target = named('url = "https://host/p"', 'ca = "ca.pem"')
    assert (target.ca, target.is_encrypted, target.identity) == (str(tmp_path / "ca.pem"), True, "place")


@pytest.mark.parametrize(
    ("store", "identity"),
    [
        ({}, "embedded:s3"),
        ({"link": "veth"}, "embedded:s3+veth"),
        ({"endpoint": "https://127.0.0.1:1"}, "embedded:s3+tls"),
        ({"endpoint": "https://127.0.0.1:1", "anonymous": False, "link": "veth"}, "embedded:s3+veth+tls+signed"),
    ],
)
def test_ways_to_the_embedded_store_keep_figures_apart(store, identity):
    plain = {"anonymous": True, "endpoint": "http://127.0.0.1:1"}
    assert Target(name="embedded", url="s3://bench", profile="s3", **plain | store).identity == identity


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({"name": "s3", "first_byte_ms": 20, "link_gbit_s": 2}, "s3"),
        (
            {"name": "custom", "first_byte_ms": 20, "connection_mb_s": 90, "link_gbit_s": 10},
            "custom(20ms,90MB/s,10Gbit/s)",
        ),
        ({"name": "custom", "first_byte_ms": 5.5, "first_byte_p99_ms": 80, "seed": 3}, "custom(5.5-80ms)"),
        (
            {"name": "custom", "requests_per_second_per_prefix": 5500, "idle_seconds": 5},
            "custom(5500requests/s,idle 5s)",
        ),
        ({"name": "custom"}, "custom()"),
    ],
)
def test_service_times_that_are_no_presets_are_told_apart(values, label):
    assert Profile(**values).label == label


def test_what_a_store_was_started_with_is_part_of_its_identity(own_state):
    lifecycle.start(StoreSettings(profile="s3", link_gbit_s=10.0))
    assert resolve("embedded").identity == "embedded:custom(20ms,90MB/s,10Gbit/s)"


def test_a_way_that_is_demanded_is_that_of_the_running_store(embedded_store):
    assert resolve("embedded:loopback").identity == "embedded:loopback"
    with pytest.raises(BadUseError, match=r"is 'embedded:loopback', not 'embedded:loopback\+tls': .* --tls`"):
        resolve("embedded:loopback+tls")
    with pytest.raises(BadUseError, match=r"unknown way to reach the embedded store 'ssl'"):
        resolve("embedded:loopback+ssl")


@pytest.mark.parametrize(
    ("asked", "flags"),
    [
        ("", ["--profile", "s3"]),
        ("loopback+veth", ["--profile", "loopback", "--link", "veth"]),
        ("s3+tls+signed", ["--profile", "s3", "--tls", "--auth"]),
    ],
)
def test_what_a_name_demands_is_what_the_store_is_started_with(asked, flags):
    assert store_flags(asked) == flags


@pytest.mark.parametrize("url", ["https://h/x?signature=secret", "s3://key:secret@b/x", "s3://key:secret@b/x y"])
def test_a_url_that_is_refused_does_not_show_its_secret(url):
    with pytest.raises(BadUseError) as error:
        resolve(url)
    assert "secret" not in str(error.value)


def test_the_embedded_store_says_itself_what_it_is(tmp_path, monkeypatch):
    (tmp_path / "targets.toml").write_text('[embedded]\nurl = "s3://bench"\nregion = "eu-west-1"\n')
    monkeypatch.setenv("ZCB_TARGETS", str(tmp_path / "targets.toml"))
    with pytest.raises(BadUseError, match="takes a url only"):
        resolve("embedded")


def test_a_workload_of_an_unknown_scheme_is_refused():
    with pytest.raises(BadUseError, match="no store for ftp:// URLs"):
        open_store(Target(name="x", url="ftp://host/x"))


def test_the_account_is_that_of_the_environment_where_none_is_named(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "mine")
    assert resolve("az://c/p").identity == "az://c/p@mine"


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({}, None),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-north-1"}, "eu-north-1"),
    ],
)
def test_every_library_is_told_the_same_region(monkeypatch, variables, region):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    target = resolve("s3://b/p")
    assert target.region == region
    told = region or "us-east-1"
    assert obstore_store(target, prefix="", retry=True).config["region"] == told
    assert tensorstore_location(target, "a", in_flight=1).kvstore["aws_region"] == told
    trace = aiohttp.TraceConfig()
    options = fsspec_location(target, "a", connections=1, trace=trace).options
    assert options["client_kwargs"] == {"region_name": told}


# --- interfaces


def test_named_interfaces_are_counted_instead_of_the_route(named, monkeypatch):
    target = named('url = "s3://b"', 'endpoint = "http://127.0.0.1:1"', f'nic = ["{NIC}", "{NIC}"]')
    assert target.nic == (NIC, NIC)
    assert named('url = "s3://b"', f'nic = "{NIC}"').nic == (NIC,)
    counted = iter(range(100, 10_000, 100))

    def read(interface):
        bytes_now = next(counted)
        return NicCounters(interface=interface, rx_bytes=bytes_now, rx_packets=bytes_now // 10)

    monkeypatch.setattr(network, "read", read)
    with Probe(target) as probe:
        probe.begin()
        nic = probe.end().nic
    # Each interface is read in turn, so both have received 200 bytes more when they are read again.
    assert (nic.interface, nic.rx_bytes, nic.rx_packets) == (f"{NIC}+{NIC}", 400, 40)


def test_an_interface_that_does_not_count_makes_the_sum_unknown():
    def one(rx_bytes):
        return (NicCounters(interface="a", rx_bytes=rx_bytes, rx_packets=rx_bytes),)

    lo = (NicCounters(interface="lo", rx_bytes=None, rx_packets=None),)
    assert network.grown(one(1), one(5)).rx_bytes == 4
    assert network.grown(one(1) + lo, one(5) + lo).rx_bytes is None


def test_interfaces_and_addresses_are_no_part_of_the_work(embedded_store, bucket, tiny):
    made = create_workload("chunks_of_one_shard", tiny, dataset="tiny/small")
    elsewhere = msgspec.structs.replace(made.target, nic=("ens5",), endpoint="http://elsewhere")
    assert msgspec.structs.replace(made, target=elsewhere).digest == made.digest
    paid = msgspec.structs.replace(made.target, requester_pays=True)
    assert msgspec.structs.replace(made, target=paid).digest != made.digest


# --- what the libraries send


@pytest.fixture
def tiny(embedded_store, bucket):
    """The smallest data set in a bucket of its own, as an S3 target that is not the embedded one."""
    target = Target(name="own", url=f"s3://{bucket}/a/b", endpoint=embedded_store.endpoint, region="us-east-1")
    anonymous = msgspec.structs.replace(target, anonymous=True)
    (spec,) = presets.specs("tiny", ("small",))
    write.write(open_store(anonymous), spec)
    repository.write(anonymous, spec)
    return anonymous


@contextmanager
def recording_proxy(upstream):
    """Forward to a server and yield its address and the headers of every request."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self):
            seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            host = urlsplit(upstream)
            there = http.client.HTTPConnection(host.hostname, host.port, timeout=60)
            there.request(self.command, self.path, headers=dict(self.headers))
            answer = there.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            there.close()

        do_GET = do_HEAD = forward  # noqa: N815 - http.server's names

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def readers(rust_reader):
    """The readers, whose processes are the same for all tests and begin with the first."""
    with Conductor(benchmarked(), plan=Plan(samples=1, trials=1)) as conductor:
        yield conductor


@pytest.mark.slow
@pytest.mark.parametrize("pays", [True, False])
def test_every_reader_says_that_the_requester_pays_and_only_then(tiny, embedded_store, monkeypatch, readers, pays):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    made = create_workload("chunks_of_one_shard", tiny, dataset="tiny/small", parameters=Parameters(gap=1))
    with recording_proxy(embedded_store.endpoint) as (endpoint, seen):
        payer = msgspec.structs.replace(tiny, endpoint=endpoint, anonymous=False, requester_pays=pays)
        work = msgspec.structs.replace(made, target=payer)
        rows = readers.measure(work)
    assert {row.reader: row.error for row in rows if row.error} == {}
    assert [row.reader for row in rows if not row.samples] == [
        name for name in benchmarked() if pays and not reader_class(name).requester_pays
    ]
    assert {headers.get(PAYER) for _, headers in seen} == {"requester" if pays else None}
    assert {bool(headers.get("authorization")) for _, headers in seen} == {True}


def test_tensorstore_still_misspells_the_header(tiny, embedded_store):
    """Once this fails, `harness.targets.tensorstore` can let tensorstore read such buckets."""
    with recording_proxy(embedded_store.endpoint) as (endpoint, seen):
        kvstore = {"driver": "s3", "bucket": tiny.bucket, "path": "a/b/", "aws_region": "us-east-1"}
        options = {"endpoint": endpoint, "aws_credentials": {"type": "anonymous"}, "requester_pays": True}
        store = tensorstore.KvStore.open(kvstore | options).result()
        assert store.read("tiny/small/zarr.json").result().value
    assert seen
    assert {(headers.get("x-amz-requester-payer"), headers.get(PAYER)) for _, headers in seen} == {("requester", None)}


def test_a_bucket_that_is_missing_is_said_alike_whatever_the_pattern(embedded_store):
    s3_client(embedded_store.endpoint)  # the store is up
    target = Target(name="x", url="s3://no-such-bucket-here", endpoint=embedded_store.endpoint, anonymous=True)
    for dataset in (None, "tiny/small"):
        with pytest.raises(Exception, match="no such bucket"):
            create_workload("whole_array", target, dataset=dataset)


PUBLIC = "(public data: `anonymous = true` in targets.toml)"


@pytest.mark.parametrize(
    ("url", "keys", "said"),
    [
        ("s3://b", {}, f": AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set {PUBLIC}"),
        ("s3://b", {"AWS_ACCESS_KEY_ID": "a"}, f": AWS_SECRET_ACCESS_KEY is not set {PUBLIC}"),
        ("s3://b", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, ""),
        ("gs://b", {}, ""),
    ],
)
def test_keys_that_are_not_set_are_named_where_a_bucket_refuses(monkeypatch, url, keys, said):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError) as error, reaching(Target(name="x", url=url)):
        raise PermissionDeniedError("no")
    assert str(error.value) == f"{url} refuses these credentials{said}"


def test_a_full_disk_of_the_embedded_store_is_named(embedded_store):
    said = "<Code>InternalError</Code><Message>the store failed: no storage space</Message>"
    with pytest.raises(StoreError) as own, reaching(resolve("embedded")):
        raise GenericError(said)
    assert str(own.value).endswith(f"no storage space: make room on the disk of {embedded_store.root}")
    with pytest.raises(StoreError) as other, reaching(Target(name="t", url="s3://bucket")):
        raise GenericError(said)
    assert str(other.value).endswith("no storage space")
