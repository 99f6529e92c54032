"""Bad use and trouble with the store: one line on stderr, the right exit code, no traceback, nothing written."""

import json
import os
import socket
import subprocess
import sys

import pytest

from harness.store import lifecycle
from harness.store.lifecycle import StoreSettings

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "planted-secret"}
WRONG_KEYS = {**KEYS, "AWS_SECRET_ACCESS_KEY": "wrong-secret"}


@pytest.fixture
def zcb(tmp_path):
    """Run the command as a user does; returns (exit code, stdout, stderr)."""

    def run(*arguments, **environment):
        code = "from harness.cli import command; command()"
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert "planted-secret" not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def locked(own_state, monkeypatch):
    """A store that demands signatures."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return lifecycle.start(StoreSettings(profile="loopback", auth=True))


@pytest.fixture
def targets(tmp_path, monkeypatch):
    def write(endpoint):
        table = 'url = "s3://{}/x"\nendpoint = "{}"\nregion = "us-east-1"\nanonymous = true\n'
        text = '[embedded]\nurl = "s3://bench"\n'
        text += "[missing]\n" + table.format("no-such-bucket", endpoint)
        text += "[down]\n" + table.format("bench", "http://127.0.0.1:9")
        (tmp_path / "targets.toml").write_text(text)
        monkeypatch.setenv("ZCB_TARGETS", str(tmp_path / "targets.toml"))

    return write


def one_line(stderr):
    (line,) = stderr.strip().splitlines()
    assert line.startswith("zcb: ")
    return line


WORKLOAD = ["workload", "whole_array", "-o", "w.json", "--target"]
CREATE = ["data", "create", "--preset", "tiny", "--target"]
VERIFY = ["data", "verify", "--target"]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ([*WORKLOAD, "missing"], 3, "no such bucket"),
        ([*CREATE, "missing"], 3, "no such bucket"),
        ([*VERIFY, "missing"], 3, "no such bucket"),
        ([*WORKLOAD, "down"], 3, "cannot reach http://127.0.0.1:9"),
        ([*CREATE, "down"], 3, "cannot reach http://127.0.0.1:9"),
        ([*WORKLOAD, "embedded"], 2, "holds no dataset 'small': `zcb data list --target embedded`"),
        ([*WORKLOAD, "embedded:s3"], 2, "is 'embedded:loopback', not 'embedded:s3'"),
        ([*WORKLOAD, "nowhere"], 2, "unknown target 'nowhere'"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(zcb, embedded_store, targets, tmp_path, arguments, code, complaint):
    targets(embedded_store.endpoint)
    if arguments[-1].startswith("embedded"):
        targets(embedded_store.endpoint)
        (tmp_path / "targets.toml").write_text('[embedded]\nurl = "s3://bench/empty"\n')
    got, out, err = zcb(*arguments)
    assert (got, out) == (code, "")
    assert complaint in one_line(err)
    assert not (tmp_path / "w.json").exists()


def test_a_store_that_is_not_running_is_said_with_its_cure(zcb, tmp_path):
    got, _, err = zcb(*WORKLOAD, "embedded", ZCB_STATE_DIR=str(tmp_path))
    assert got == 3
    assert "zcb store start" in one_line(err)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["data", "list", "--target", "embedded"], ["read"], ["read", "--json"]]
)
def test_nobody_reads_the_output_any_more(zcb, embedded_store, targets, tmp_path, arguments):
    """As after `| head`: neither the answer no nor an error."""
    targets(embedded_store.endpoint)
    if arguments[0] != "--help":
        assert zcb(*CREATE, "embedded")[0] == 0
    if arguments[0] == "read":
        assert zcb(*WORKLOAD, "embedded", "--dataset", "large")[0] == 0
        arguments = [*arguments, "zarr-python+obstore", "w.json", "--samples", "1"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        code = "from harness.cli import command; command()"
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert done.returncode == 141, done.stderr
    assert "zcb: " not in done.stderr
    assert "Error" not in done.stderr


def test_wrong_credentials_are_refused_in_a_line(zcb, locked, tmp_path):
    assert zcb(*CREATE, "embedded")[0] == 0
    assert zcb(*WORKLOAD, "embedded", "--dataset", "large")[0] == 0
    for arguments in ([*CREATE, "embedded"], [*WORKLOAD, "embedded"], [*VERIFY, "embedded"]):
        got, _, err = zcb(*arguments, **WRONG_KEYS)
        assert got == 3
        assert "refuses these credentials" in one_line(err)
    for reader in ("zarr-python+obstore", "zarr-python+fsspec"):
        got, _, err = zcb("read", reader, "w.json", "--samples", "1", **WRONG_KEYS)
        assert got == 3
        assert "refuses these credentials" in one_line(err)
        got, _, err = zcb("read", reader, "w.json", "--samples", "1", "--json")
        assert got == 0, err
        assert "planted-secret" not in (tmp_path / "w.json").read_text()


def test_a_workload_of_a_store_that_is_gone_is_not_measured(zcb, own_state, tmp_path):
    lifecycle.start(StoreSettings(profile="loopback"))
    assert zcb(*CREATE, "embedded")[0] == 0
    assert zcb(*WORKLOAD, "embedded")[0] == 0
    lifecycle.stop()
    got, _, err = zcb("read", "zarr-python+obstore", "w.json")
    assert got == 3
    assert "zcb store start" in one_line(err)


def test_a_workload_finds_the_embedded_store_on_whatever_port_it_serves_now(zcb, own_state, rust_reader, tmp_path):
    before = lifecycle.start(StoreSettings(profile="loopback"))
    assert zcb(*CREATE, "embedded")[0] == 0
    assert zcb(*WORKLOAD, "embedded", "--dataset", "large")[0] == 0  # fewer chunks: the limit reads each by itself
    lifecycle.stop()
    now = lifecycle.start(StoreSettings(profile="loopback", first_byte_ms=1, port=_another(before.endpoint)))
    assert now.endpoint != before.endpoint
    assert before.endpoint in (tmp_path / "w.json").read_text()
    for reader in ("zarr-python+obstore", "zarrs"):
        got, out, err = zcb("read", reader, "w.json", "--samples", "1", "--json")
        assert got == 0, err
        assert json.loads(out)["target"] == "embedded:custom(1ms)"


def _another(endpoint):
    """Return a free port that is not the one of `endpoint`."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert port != int(endpoint.rpartition(":")[2])
    return port


def test_the_debug_option_shows_the_traceback(zcb, embedded_store):
    got, _, err = zcb("--debug", *WORKLOAD, "nowhere")
    assert got == 2
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("zcb: unknown target 'nowhere'")
