"""How fast a target answers: on stores whose service time is known, so that figures can be told right from wrong."""

import json

import msgspec
import obstore
import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.doctor import speed
from harness.doctor.speed import Speed
from harness.errors import BadUseError
from harness.store import lifecycle
from harness.store.lifecycle import StoreSettings
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


def test_plain_http_cannot_be_listed():
    with pytest.raises(BadUseError, match="plain HTTP"):
        speed.measure(Target(name="h", url="https://host/path"))
