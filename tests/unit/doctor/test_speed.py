"""How fast a target answers: on stores whose service time is known, so that figures can be told right from wrong."""

import asyncio
import http.server
import json
import threading

import msgspec
import obstore
import pytest
from click.testing import CliRunner
from obstore.exceptions import PermissionDeniedError
from obstore.store import MemoryStore

from harness.cli import zcb
from harness.doctor import speed
from harness.doctor.speed import Speed
from harness.errors import BadUseError, StoreError
from harness.store import lifecycle
from harness.store.lifecycle import StoreSettings
from harness.store.state import KEY_VARIABLES
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.targets.target import Target
from setup_data.bucket import ensure_bucket

MIB = 1 << 20


@pytest.fixture
def store(own_state):
    """Start a store with some service time and objects of 4 MiB; returns the target."""

    def start(**service):
        running = lifecycle.start(StoreSettings(**service))
        target = resolve("embedded")
        ensure_bucket(target)
        for number in range(3):
            obstore.put(open_store(target), f"a/c/{number}", bytes(4 * MIB))
        obstore.put(open_store(target), "a/zarr.json", b"{}")
        return running, target

    return start


def test_the_numbers_beside_which_it_stands_are_the_stores_own(store):
    running, _ = store(profile="s3")
    known = {
        name: getattr(running.profile, name) for name in ("name", "first_byte_ms", "connection_mb_s", "link_gbit_s")
    }
    assert known == {name: getattr(speed.S3, name) for name in known}


@pytest.mark.alone
def test_first_byte_and_rates_are_those_of_the_store(store):
    running, target = store(profile="loopback", first_byte_ms=60, connection_mb_s=20, link_gbit_s=0.8)
    found = speed.measure(target)
    assert found.objects == 3
    # A busy machine is slower than the store was told to be, and never faster.
    assert found.first_byte_ms >= 60
    assert found.connection_mb_s < 1.1 * 20
    assert found.connection_mb_s * 8e-3 < found.link_gbit_s < 1.1 * 0.8
    assert found.fetched_bytes <= 3 * 4 * MIB + speed.CONNECTIONS * 4 * MIB
    assert running.endpoint == target.endpoint


def test_the_command_starts_a_store_like_it():
    found = Speed(first_byte_ms=34.567, connection_mb_s=71.26, link_gbit_s=9.876, objects=1, fetched_bytes=1)
    words = found.start_command.split()
    assert words[:3] == ["zcb", "store", "start"]
    command = zcb.get_command(None, "store").commands["start"]
    context = command.make_context("start", words[3:])
    assert {name: context.params[name] for name in ("first_byte_ms", "connection_mb_s", "link_gbit_s")} == {
        "first_byte_ms": 34.6,
        "connection_mb_s": 71.3,
        "link_gbit_s": 9.88,
    }


def test_it_stands_in_what_the_doctor_says(store):
    _, target = store(profile="loopback")
    said = CliRunner().invoke(zcb, ["doctor", "--target", "embedded"]).stdout
    assert "32 connections" in said
    assert "embedded store, profile s3" in said
    assert "zcb store start --first-byte-ms" in said
    report = json.loads(CliRunner().invoke(zcb, ["doctor", "--target", "embedded", "--json"]).stdout)
    assert msgspec.convert(report["speed"], Speed).objects == 3
    obstore.delete(open_store(target), [f"a/c/{number}" for number in range(3)])
    done = CliRunner().invoke(zcb, ["doctor", "--target", "embedded", "--json"])
    assert json.loads(done.stdout)["speed"] is None
    assert "it holds no object of 64 KiB" in done.stderr


@pytest.mark.parametrize(
    ("narrow", "steps", "rate", "reached"),
    [
        (400, [32], 400, True),  # 32 of 90 would fetch 2880
        (3000, [32, 64], 3000, True),
        (8000, [32, 64, 128], 8000, True),
        (1e9, [32, 64, 128, 256], 256 * 90, False),
    ],
)
def test_connections_are_doubled_until_the_link_is_met(narrow, steps, rate, reached):
    tried = []

    async def together(count):
        tried.append(count)
        return min(narrow, count * 90)

    found = asyncio.run(speed.reach_link(together, 90))
    assert tried == steps
    assert (found.rate, found.reached) == (rate, reached)


def test_more_connections_that_fetch_more_slowly_do_not_count():
    rates = {32: 2500, 64: 2000}

    async def together(count):
        return rates[count]

    assert asyncio.run(speed.reach_link(together, 90)) == (2500, 32, True)


def test_the_bytes_that_the_help_speaks_of_are_the_most_that_are_fetched():
    counts = [32, 64, 128, 256]
    assert counts[-1] == speed.MOST_CONNECTIONS
    steps = sum(count * min(speed._LONGEST, speed._MOST_AT_ONCE // count) for count in counts)
    most = speed._LARGE_GETS * speed._LONGEST + steps
    assert 0.95 * speed.MOST_GB * 1e9 < most <= speed.MOST_GB * 1e9
    assert speed._LARGE_GETS * speed._LONGEST + speed.CONNECTIONS * speed._LONGEST <= 300e6
    assert f"up to {speed.MOST_GB} GB" in " ".join(CliRunner().invoke(zcb, ["doctor", "--help"]).stdout.split())


UNMET = Speed(
    first_byte_ms=20,
    connection_mb_s=90,
    link_gbit_s=184.32,
    connections=256,
    link_reached=False,
    objects=1,
    fetched_bytes=1,
)


def test_a_link_that_was_not_met_is_none_of_the_store_like_it():
    assert UNMET.start_command.endswith("--connection-mb-s 90 --link-gbit-s 0")


def test_a_link_that_was_not_met_is_said_to_be_faster(store, monkeypatch):
    store(profile="loopback")
    monkeypatch.setattr(speed, "measure", lambda _: UNMET)
    monkeypatch.setenv("COLUMNS", "120")
    said = CliRunner().invoke(zcb, ["doctor", "--target", "embedded"]).stdout
    assert "256 connections" in said
    assert "at least 184 Gbit/s: the link was not reached" in said


def answers(target):
    """Return the exit code and the row that says whether a target answers."""
    done = CliRunner().invoke(zcb, ["doctor", "--target", target, "--preset", "tiny", "--json"])
    report = json.loads(done.stdout)
    (row,) = (check for check in report["checks"] if check["name"] == "answers")
    assert report["can_bench"] == (done.exit_code == 0)
    return done.exit_code, row


@pytest.fixture
def elsewhere(store, monkeypatch, tmp_path):
    """Return what names a store that demands keys as if it were a service of one's own."""
    for name in KEY_VARIABLES:
        monkeypatch.setenv(name, "planted")
    running, target = store(profile="loopback", auth=True)
    monkeypatch.setenv("ZCB_TARGETS", str(tmp_path / "targets.toml"))

    def point(key="planted", endpoint=running.endpoint, bucket=target.bucket):
        (tmp_path / "targets.toml").write_text(f'[own]\nurl = "s3://{bucket}"\nendpoint = "{endpoint}"\n')
        monkeypatch.setenv(KEY_VARIABLES[-1], key)
        return "own"

    return point


def test_a_bucket_that_can_be_read_answers(elsewhere):
    assert answers(elsewhere()) == (
        0,
        {"name": "answers", "verdict": "ok", "found": "yes", "needed_for": "everything there", "cure": None},
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"key": "another"}, "refuses these credentials (SignatureDoesNotMatch)"),
        ({"endpoint": "http://127.0.0.1:1"}, "cannot reach http://127.0.0.1:1"),
        ({"bucket": "of-nobody"}, "no such bucket"),
    ],
)
def test_a_bucket_that_cannot_be_read_cannot_be_measured(elsewhere, wrong, says):
    code, row = answers(elsewhere(**wrong))
    assert code == 1
    assert row["verdict"] == "wrong"
    assert says in row["found"]
    assert "another" not in row["found"]
    assert row["cure"].startswith("check the address")


def test_a_bucket_of_the_embedded_store_that_is_not_made_yet_is_no_obstacle(own_state):
    lifecycle.start(StoreSettings(profile="loopback"))
    code, row = answers("embedded")
    assert (code, row["verdict"]) == (0, "ok")


class _Answering(http.server.BaseHTTPRequestHandler):
    """Answers every GET with the status in its path."""

    def do_GET(self):
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Keep quiet."""


@pytest.fixture(scope="module")
def address():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_plain_http_that_refuses_answers_and_cannot_be_listed(address, status):
    assert answers(f"{address}/{status}/a.zarr")[1]["verdict"] == "ok"
    with pytest.raises(BadUseError, match="plain HTTP"):
        speed.measure(Target(name="h", url=f"{address}/{status}/a.zarr"))


@pytest.mark.parametrize(
    ("url", "says"),
    [("http://127.0.0.1:1/a.zarr", "cannot reach http://127.0.0.1:1"), ("{address}/503/a.zarr", "answers 503")],
)
def test_plain_http_that_is_dead_cannot_be_measured(address, url, says):
    code, row = answers(url.format(address=address))
    assert (code, row["verdict"]) == (1, "wrong")
    assert says in row["found"]


@pytest.mark.parametrize("name", ["zarr.json", ".zarray"])
def test_public_data_that_nobody_may_list_can_be_read(monkeypatch, name):
    store = MemoryStore()
    store.put(name, b"{}")

    def refused(*_, **__):
        raise PermissionDeniedError("status code: 403 <Code>AccessDenied</Code>")

    monkeypatch.setattr(speed, "open_store", lambda *_, **__: store)
    monkeypatch.setattr(speed.obstore, "list", refused)
    target = Target(name="public", url="s3://bucket/a.zarr", anonymous=True)
    with pytest.raises(BadUseError, match="can be read there, but nothing can be listed"):
        speed.measure(target)
    store.delete(name)
    with pytest.raises(StoreError, match="AccessDenied"):
        speed.measure(target)
