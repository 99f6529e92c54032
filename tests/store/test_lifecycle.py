"""``zcb store``: one server whatever happens, and an end to exactly that one."""

import http
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from harness.doctor import machine as doctor
from harness.errors import StoreError
from harness.machine import rust
from harness.store import lifecycle, state
from harness.store.control import StoreControl
from harness.store.lifecycle import StoreSettings

pytestmark = pytest.mark.usefixtures("own_state")

PLAIN = StoreSettings(profile="loopback")


def zcb(*arguments: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """Run ``zcb store`` as a user does; a variable of None is unset."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", "store", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={name: value for name, value in environment.items() if value is not None},
    )


def says(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Check the exit code, and that an error is one line that holds the words."""
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_start_status_stop():
    first = zcb("start", "--profile", "loopback")
    assert first.returncode == 0
    url = first.stdout.removesuffix("\n")
    assert urlsplit(url).hostname == "127.0.0.1"
    assert first.stdout.count("\n") == 1
    again = zcb("start", "--profile", "loopback")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "already running" in again.stderr
    assert zcb("start", "--profile", "loopback", "--port", str(urlsplit(url).port)).stdout == first.stdout

    status = zcb("status")
    assert (status.returncode, url in status.stdout, "loopback" in status.stdout) == (0, True, True)
    report = json.loads(zcb("status", "--json").stdout)
    assert (report["schema"], report["running"], report["endpoint"]) == (1, True, url)
    assert report["profile"]["first_byte_ms"] is None
    assert report["uptime_seconds"] > 0
    assert report["counters"]["errors"] == 0

    says(zcb("stop"), 0, "stopped")
    assert not state.is_alive(report["pid"])
    says(zcb("stop"), 0, "nothing")
    says(zcb("status"), 3, "not running", "zcb store start")
    nothing = zcb("status", "--json")
    assert (nothing.returncode, json.loads(nothing.stdout)) == (3, {"schema": 1, "running": False})


def test_start_prints_its_state_as_json():
    report = json.loads(zcb("start", "--profile", "s3-tail", "--seed", "7", "--json").stdout)
    assert report["profile"]["name"] == "s3-tail"
    assert report["profile"]["seed"] == 7
    assert report["profile"]["first_byte_p99_ms"] > report["profile"]["first_byte_ms"]


@pytest.mark.parametrize(
    "other",
    [
        ["--profile", "s3"],
        ["--first-byte-ms", "7"],
        ["--root", "elsewhere"],
        ["--tls"],
        ["--port", "1"],
        ["--seed", "3"],
    ],
)
def test_other_settings_are_refused_while_one_runs(other):
    lifecycle.start(PLAIN)
    done = zcb("start", "--profile", "loopback", *other)
    says(done, 2, "loopback", "zcb store stop")
    assert done.stdout == ""


def test_two_starts_at_once_are_one_server():
    command = [sys.executable, "-m", "harness.cli", "store", "start", "--profile", "loopback"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    (one, _), (two, _) = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert one == two == f"{state.require_running().endpoint}\n"


def test_two_threads_at_once_are_one_server():
    states: list[state.StoreState] = []
    threads = [threading.Thread(target=lambda: states.append(lifecycle.start(PLAIN))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(states) == 4
    assert len({store.pid for store in states}) == 1


def test_state_directories_are_apart(tmp_path, monkeypatch):
    one = lifecycle.start(PLAIN)
    with monkeypatch.context() as patch:
        patch.setenv("ZCB_STATE_DIR", str(tmp_path / "other"))
        two = lifecycle.start(PLAIN)
        assert one.pid != two.pid
        assert lifecycle.stop()
    assert state.require_running().pid == one.pid


def test_the_store_is_a_session_of_its_own():
    assert os.getsid(lifecycle.start(PLAIN).pid) != os.getsid(0)


def test_a_killed_store_is_noticed_and_replaced():
    first = lifecycle.start(PLAIN)
    os.kill(first.pid, signal.SIGKILL)
    lifecycle._children.pop(first.pid).wait()
    assert state.state_file().exists()
    says(zcb("status"), 3)
    assert lifecycle.start(PLAIN).pid != first.pid


def _left_by(pid: int, born: int | None) -> None:
    """Leave a state file as a store of that process would have."""
    left = lifecycle.start(PLAIN)
    lifecycle.stop()
    left = msgspec.structs.replace(left, pid=pid, born=born)
    state.state_file().write_bytes(msgspec.json.encode(left))


def test_a_process_id_recycled_by_another_program():
    _left_by(os.getpid(), state.birth(os.getpid()))
    assert state.running() is None
    assert not lifecycle.stop()
    assert not state.state_file().exists()


def test_a_process_id_recycled_by_another_store(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("ZCB_STATE_DIR", str(tmp_path / "other"))
        other = lifecycle.start(PLAIN)
    assert other.born is not None
    _left_by(other.pid, other.born - 1)
    assert not lifecycle.stop()
    assert state.is_alive(other.pid)
    with monkeypatch.context() as patch:
        patch.setenv("ZCB_STATE_DIR", str(tmp_path / "other"))
        assert lifecycle.stop()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema":1}'])
def test_a_broken_state_file_counts_as_none(content):
    state.store_dir().mkdir(parents=True)
    state.state_file().write_bytes(content)
    assert state.running() is None
    assert state.is_alive(lifecycle.start(PLAIN).pid)


def test_stop_during_a_get():
    store = lifecycle.start(StoreSettings(profile="loopback", connection_mb_s=4))
    connection = http.client.HTTPConnection(urlsplit(store.endpoint).netloc, timeout=60)
    for path, body in {"/bench": None, "/bench/k": bytes(32 << 20)}.items():
        connection.request("PUT", path, body)
        connection.getresponse().read()
    connection.request("GET", "/bench/k")
    answer = connection.getresponse()
    assert answer.read(1000) == bytes(1000)
    assert lifecycle.stop()
    assert not Path(f"/proc/{store.pid}").exists()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()


def test_a_store_that_ignores_sigterm_is_killed(monkeypatch):
    monkeypatch.setattr(lifecycle, "_STOPS_WITHIN_S", 0.3)
    store = lifecycle.start(PLAIN)
    os.kill(store.pid, signal.SIGSTOP)
    assert lifecycle.stop()
    assert not Path(f"/proc/{store.pid}").exists()


def test_objects_survive_a_restart(tmp_path):
    settings = StoreSettings(profile="loopback", root=str(tmp_path / "kept"))
    for expected in (404, 200):
        store = lifecycle.start(settings)
        connection = http.client.HTTPConnection(urlsplit(store.endpoint).netloc, timeout=60)
        connection.request("GET", "/bench/k")
        assert connection.getresponse().status == expected
        connection.close()
        for path, body in {"/bench": None, "/bench/k": b"x"}.items():
            connection.request("PUT", path, body)
            connection.getresponse().read()
        lifecycle.stop()


def test_an_authority_is_trusted_over_restarts_and_its_key_is_kept(own_state):
    trusted = None
    for _ in range(2):
        store = json.loads(zcb("start", "--profile", "loopback", "--tls", "--json").stdout)
        assert (store["endpoint"][:8], store["control"][:7]) == ("https://", "http://")
        trusted = trusted or ssl.create_default_context(cafile=store["ca"])
        connection = http.client.HTTPSConnection(urlsplit(store["endpoint"]).netloc, context=trusted, timeout=60)
        connection.request("GET", "/")
        assert connection.getresponse().status == http.HTTPStatus.OK
        connection.close()
        lifecycle.stop()
    key = own_state / "store" / "tls" / "ca.key"
    assert (key.stat().st_mode & 0o777, "PRIVATE KEY" in key.read_text()) == (0o600, True)
    assert "PRIVATE KEY" not in Path(store["ca"]).read_text()


def test_who_does_not_trust_the_authority_or_speaks_no_tls_gets_nothing(own_state):
    netloc = urlsplit(lifecycle.start(msgspec.structs.replace(PLAIN, tls=True)).endpoint).netloc
    with pytest.raises(ssl.SSLCertVerificationError):
        http.client.HTTPSConnection(netloc, timeout=60).request("GET", "/")
    connection = http.client.HTTPConnection(netloc, timeout=60)
    connection.request("GET", "/")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()


@pytest.mark.parametrize(
    ("version", "chosen", "preferred"),
    [
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (ssl.TLSVersion.TLSv1_3, "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"),
    ],
)
def test_a_client_that_prefers_another_cipher_gets_the_one_that_s3_chooses(version, chosen, preferred):
    store = lifecycle.start(msgspec.structs.replace(PLAIN, tls=True))
    context = ssl.create_default_context(cafile=store.ca)
    context.maximum_version = version
    offered = [cipher["name"] for cipher in context.get_ciphers()]
    assert offered.index(preferred) < offered.index(chosen)
    connection = http.client.HTTPSConnection(urlsplit(store.endpoint).netloc, context=context, timeout=60)
    connection.connect()
    agreed = connection.sock.cipher()
    connection.close()
    assert agreed[0] == chosen


def test_causes_of_errors_are_kept_on_demand():
    store = lifecycle.start(msgspec.structs.replace(PLAIN, log_errors=True))
    connection = http.client.HTTPConnection(urlsplit(store.endpoint).netloc, timeout=60)
    for method, path in [("PUT", "/bench"), ("GET", "/bench?acl")]:
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
    assert answer.status == http.HTTPStatus.NOT_IMPLEMENTED
    log = (state.store_dir() / "s3-store.log").read_text()
    assert answer.headers["x-amz-request-id"] in log
    assert "NotImplemented" in log


def test_a_taken_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = zcb("start", "--profile", "loopback", "--port", str(taken.getsockname()[1]))
    says(done, 3, str(taken.getsockname()[1]) if taken.fileno() >= 0 else "taken")
    assert state.running() is None


def test_auth_needs_keys():
    says(zcb("start", "--auth", AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY=None), 2, "AWS_SECRET_ACCESS_KEY")


def test_keys_are_on_no_command_line_and_in_no_file(own_state):
    keys = {"AWS_ACCESS_KEY_ID": "key-to-look-for", "AWS_SECRET_ACCESS_KEY": "secret-to-look-for"}
    assert zcb("start", "--auth", **keys).returncode == 0
    store = state.require_running()
    assert store.auth
    assert b"to-look-for" not in Path(f"/proc/{store.pid}/cmdline").read_bytes()
    files = [path for path in own_state.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"to-look-for" in path.read_bytes()]
    says(zcb("start", "--auth", **keys), 0, "already running")
    says(zcb("start", "--auth", **keys | {"AWS_SECRET_ACCESS_KEY": "another"}), 2, "demands other keys")


def test_a_state_directory_that_cannot_be_written():
    says(zcb("start", ZCB_STATE_DIR="/proc/nowhere"), 2, "/proc/nowhere")


def _program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("echo first >&2; echo 's3-store: out of sorts' >&2; exit 7", StoreError, "out of sorts"),
        ("exit 1", StoreError, "exit code 1"),
        ("echo '{'", StoreError, "unexpected"),
        ("sleep 60", StoreError, "not ready"),
    ],
)
def test_a_store_that_does_not_start(monkeypatch, tmp_path, script, kind, words):
    monkeypatch.setattr(lifecycle, "_READY_WITHIN_S", 0.5)
    monkeypatch.setattr(rust.Program, "build", lambda *_: _program(tmp_path / "s3-store", script))
    with pytest.raises(kind, match=words):
        lifecycle.start(PLAIN)
    assert not state.state_file().exists()


def test_a_store_whose_program_was_rebuilt_still_counts_as_running(store_binary, monkeypatch, tmp_path):
    copy = shutil.copy(store_binary, tmp_path / "s3-store")
    monkeypatch.setattr(rust.Program, "build", lambda *_: copy)
    store = lifecycle.start(PLAIN)
    Path(copy).unlink()
    assert state.require_running() == msgspec.convert(store, state.StoreState, from_attributes=True)
    StoreControl(store.control).health()


@pytest.fixture
def store_of_root(monkeypatch):
    """A running store of root in a state directory that others can look into."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("ZCB_STATE_DIR", folder)
        started = lifecycle.start(PLAIN)
        yield started
        lifecycle.stop()


def as_nobody(look):
    """Return what `look` finds, or what it raises, in a process of another user."""
    read, written = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            said = repr(look())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(written, said.encode())
        os._exit(0)
    os.close(written)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_store_of_root_runs_for_other_users_too(store_of_root):
    assert as_nobody(lambda: state.require_running().pid) == str(store_of_root.pid)
    assert as_nobody(lambda: state.is_alive(store_of_root.pid, store_of_root.born)) == "True"
    assert as_nobody(lambda: state.is_alive(store_of_root.pid, 1)) == "False"  # another process under its id
    assert as_nobody(lambda: state.is_alive(os.getppid())) == "False"  # this test's process: another program of root's
    assert as_nobody(state.other_owner) == "'root'"
    assert state.other_owner() is None


def test_a_store_of_root_is_said_to_be_roots(store_of_root):
    said = "StoreError: the store is running, but it is root's: only they can start and stop it here"
    assert as_nobody(lambda: lifecycle.start(PLAIN)) == said
    assert as_nobody(lifecycle.stop) == said
    assert state.running() is not None
    assert "but it is root" in as_nobody(lambda: doctor._store_running().found)


def test_a_process_that_may_not_even_be_seen_is_not_taken_for_gone(monkeypatch):
    def hidden(_path):
        raise FileNotFoundError

    def refused(_pid, _signal):
        raise PermissionError

    monkeypatch.setattr(os, "readlink", hidden)
    assert not state.is_alive(2**22)
    monkeypatch.setattr(os, "kill", refused)
    assert state.is_alive(2**22)


def test_a_state_directory_that_another_user_keeps_closed_is_said(store_of_root):
    state.state_file().chmod(0o600)
    assert as_nobody(state.running).startswith("StoreError: cannot tell whether the store is running: /")


_CHANGES_AND_WAITS = """
import time
from harness.store import lifecycle
with lifecycle.restarting() as again:
    again(first_byte_ms=7)
    print("changed", flush=True)
    time.sleep(60)
"""


def test_a_sweep_that_is_terminated_leaves_the_store_as_it_was():
    before = lifecycle.start(PLAIN)
    with subprocess.Popen([sys.executable, "-c", _CHANGES_AND_WAITS], stdout=subprocess.PIPE, text=True) as swept:
        assert swept.stdout is not None
        assert swept.stdout.readline() == "changed\n"
        assert state.require_running().profile.first_byte_ms == 7
        swept.send_signal(signal.SIGTERM)
        assert swept.wait(timeout=30) == 128 + signal.SIGTERM
    after = state.require_running()
    assert (after.profile, after.endpoint) == (before.profile, before.endpoint)
