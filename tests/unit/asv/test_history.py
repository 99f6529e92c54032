"""Releases become a git repository, the same one each time, from a package index on this machine."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from harness.asv import history, package_index
from harness.cli.history import history as command
from harness.errors import BadUseError, StoreError


class FakeIndex:
    """A package index with source distributions of zarr."""

    def __init__(self) -> None:
        self.host = ""
        self.files: list[dict[str, object]] = []
        self.archives: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.authorizations: list[str | None] = []
        self.content_type = "application/vnd.pypi.simple.v1+json"
        self.unavailable = 0
        """How many requests are refused for the moment."""

    def release(self, version: str, uploaded: str, **more: object) -> None:
        archive = sdist(version, {"pyproject.toml": f"version = {version}\n", "src/zarr.py": f"# {version}\n"})
        self.add(f"zarr-{version}.tar.gz", archive, uploaded, **more)
        self.add(f"zarr-{version}-py3-none-any.whl", b"wheel", uploaded)

    def add(self, name: str, archive: bytes, uploaded: str, **more: object) -> None:
        digest = hashlib.sha256(archive).hexdigest()
        self.archives[name] = archive
        self.files.append(
            {
                "filename": name,
                "url": f"../../files/{name}",
                "hashes": {"sha256": digest},
                "upload-time": uploaded,
                **more,
            }
        )

    def answer(self, path: str) -> bytes | None:
        self.requests.append(path)
        if path == "/simple/zarr/":
            return json.dumps({"meta": {"api-version": "1.1"}, "name": "zarr", "files": self.files}).encode()
        return self.archives.get(path.removeprefix("/files/"))


def sdist(version: str, files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"zarr-{version}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    return buffer.getvalue()


ASKED_OF_PIP = package_index._pip_settings


@pytest.fixture
def index(monkeypatch):
    """An index on this machine; pip is asked for its settings where a test says so, since that takes a second."""
    fake = FakeIndex()
    monkeypatch.setattr(package_index, "_pip_settings", lambda: {"index-url": os.environ["PIP_INDEX_URL"]})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            fake.authorizations.append(self.headers["Authorization"])
            body = fake.answer(self.path)
            self.send_response(503 if fake.unavailable else 404 if body is None else 200)
            fake.unavailable = max(fake.unavailable - 1, 0)
            self.send_header("Content-Type", fake.content_type)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    fake.host = f"127.0.0.1:{server.server_port}"
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{fake.host}/simple")
    monkeypatch.setattr(package_index, "_PAUSE_S", 0)
    fake.release("1.0.0", "2024-01-01T00:00:00Z")
    fake.release("1.2.0", "2024-03-01T12:30:15.5Z")
    fake.release("1.10.0", "2024-06-01T00:00:00Z")
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def pip_asked(index, monkeypatch):
    monkeypatch.setattr(package_index, "_pip_settings", ASKED_OF_PIP)


@pytest.fixture
def no_index(monkeypatch):
    """Cut the way to any index off, when called."""
    return lambda: monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")


def git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", repository, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def versions(releases: list[history.Release]) -> list[str]:
    return [release.version for release in releases]


def test_one_commit_and_tag_per_release_in_version_order(index, tmp_path):
    held = history.build(tmp_path / "r.git", ["1.10.0", "latest", "1.0.0", "v1.2.0"])
    assert versions(held) == ["1.0.0", "1.2.0", "1.10.0"]
    log = git(tmp_path / "r.git", "log", "--reverse", "--format=%s %at %ct").splitlines()
    assert log[1] == "zarr 1.2.0 1709296215 1709296215"
    tags = [git(tmp_path / "r.git", "describe", "--tags", name) for name in ("main~2", "main^", "main")]
    assert tags == ["v1.0.0", "v1.2.0", "v1.10.0"]
    assert git(tmp_path / "r.git", "show", "v1.2.0:src/zarr.py") == "# 1.2.0"
    assert (tmp_path / "r.git" / "src" / "zarr.py").read_text() == "# 1.10.0\n"
    assert git(tmp_path / "r.git", "status", "--short") == ""
    assert git(tmp_path / "r.git", "branch", "--show-current") == "main"


def test_a_clone_finds_the_version_by_its_tag(index, tmp_path):
    history.build(tmp_path / "r.git", ["1.0.0", "1.2.0"])
    git(tmp_path, "clone", "--quiet", "--mirror", "r.git", "mirror.git")
    git(tmp_path, "clone", "--quiet", "--shared", "mirror.git", "clone")
    assert git(tmp_path / "clone", "describe", "--tags", "--exact-match") == "v1.2.0"
    assert git(tmp_path / "clone", "describe", "--tags", "--exact-match", "HEAD^") == "v1.0.0"


def test_the_same_releases_give_the_same_hashes(index, tmp_path, monkeypatch):
    history.build(tmp_path / "a", ["1.0.0", "1.2.0", "1.10.0"])
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text("[commit]\ngpgsign = true\n[core]\nautocrlf = true\n")
    for releases in (["1.10.0"], ["1.0.0"], ["1.2.0"]):
        history.build(tmp_path / "b", releases)
    assert git(tmp_path / "a", "rev-parse", "main") == git(tmp_path / "b", "rev-parse", "main")


def test_what_is_there_is_not_fetched_again(index, tmp_path, no_index):
    history.build(tmp_path / "r", ["1.0.0", "1.2.0"])
    before = git(tmp_path / "r", "rev-parse", "main")
    index.requests.clear()
    history.build(tmp_path / "r", ["1.10.0"])
    assert index.requests == ["/simple/zarr/", "/files/zarr-1.10.0.tar.gz"]
    assert git(tmp_path / "r", "rev-parse", "main^") == before
    no_index()
    assert versions(history.build(tmp_path / "r", ["1.2.0"])) == ["1.0.0", "1.2.0", "1.10.0"]


def test_latest_without_the_index_is_the_newest_present(index, tmp_path, no_index, logged):
    history.build(tmp_path / "r", ["1.0.0", "1.2.0"])
    no_index()
    logged.clear()
    assert versions(history.build(tmp_path / "r", ["latest"])) == ["1.0.0", "1.2.0"]
    assert len(logged) == 1
    assert "1.2.0" in logged[0]
    with pytest.raises(StoreError, match="index cannot be reached"):
        history.build(tmp_path / "other", ["latest"])


def test_a_release_that_does_not_exist_and_one_that_was_yanked_are_said_in_words(index, tmp_path, logged):
    index.release("1.11.0", "2024-07-02T00:00:00Z", yanked="it deletes data")
    with pytest.raises(BadUseError, match=r"^zarr 9\.9\.9 does not exist: the newest is 1\.10\.0$"):
        history.build(tmp_path / "r", ["9.9.9"])
    assert versions(history.build(tmp_path / "r", ["1.11.0"])) == ["1.11.0"]
    assert "zarr 1.11.0 was yanked: it deletes data" in logged


def test_latest_is_final_and_not_withdrawn(index, tmp_path):
    index.release("2.0.0rc1", "2024-07-01T00:00:00Z")
    index.release("1.11.0", "2024-07-02T00:00:00Z", yanked="broken")
    assert versions(history.build(tmp_path / "r", ["latest"])) == ["1.10.0"]
    assert versions(history.build(tmp_path / "r", ["2.0.0rc1"])) == ["1.10.0", "2.0.0rc1"]


def test_a_late_release_of_an_older_series_does_not_turn_time_back(index, tmp_path):
    index.release("1.2.1", "2025-01-01T00:00:00Z")
    history.build(tmp_path / "r", ["1.2.0", "1.2.1", "1.10.0"])
    authored, committed = (
        list(map(int, git(tmp_path / "r", "log", "--reverse", f"--format={form}", "main").split()))
        for form in ("%at", "%ct")
    )
    assert authored[1] > authored[2]
    assert committed == [authored[0], authored[1], authored[1] + 60]


@pytest.mark.parametrize("release", ["9.9.9", "main", "../1.0", ""])
def test_an_unknown_release_changes_nothing(index, tmp_path, release):
    history.build(tmp_path / "r", ["1.0.0"])
    before = git(tmp_path / "r", "rev-parse", "main")
    with pytest.raises(BadUseError) as caught:
        history.build(tmp_path / "r", ["1.2.0", release])
    assert "\n" not in str(caught.value)
    assert git(tmp_path / "r", "rev-parse", "main") == before


def test_a_directory_of_somebody_else_is_left_alone(index, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    git(tmp_path, "init", "--quiet", "theirs")
    (tmp_path / "file").touch()
    for name in ("full", "theirs", "file"):
        with pytest.raises(BadUseError, match="something else"):
            history.build(tmp_path / name, ["1.0.0"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "theirs"]


def test_a_damaged_archive(index, tmp_path):
    index.archives["zarr-1.0.0.tar.gz"] += b"x"
    with pytest.raises(StoreError, match="SHA-256"):
        history.build(tmp_path / "r", ["1.0.0"])
    assert not (tmp_path / "r").exists()


def test_an_archive_that_reaches_outside(index, tmp_path):
    index.add("zarr-1.3.0.tar.gz", sdist("1.3.0", {"../../outside": "x"}), "2024-04-01T00:00:00Z")
    with pytest.raises(StoreError, match="cannot be unpacked"):
        history.build(tmp_path / "r", ["1.3.0"])
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize("missing", ["upload-time", "hashes"])
def test_an_index_without_times_or_hashes(index, tmp_path, missing):
    for file in index.files:
        file[missing] = None if missing == "upload-time" else {}
    with pytest.raises(BadUseError, match="times of upload"):
        history.build(tmp_path / "r", ["1.0.0"])
    for file in index.files:
        del file[missing]
    with pytest.raises(BadUseError, match="times of upload") as caught:
        history.build(tmp_path / "r", ["1.0.0"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content_type", ["text/html", "text/plain"])
def test_an_index_of_another_kind(index, tmp_path, content_type):
    index.content_type = content_type
    with pytest.raises(BadUseError):
        history.build(tmp_path / "r", ["1.0.0"])


def test_an_index_that_is_busy_is_asked_again(index, tmp_path):
    index.unavailable = 2
    assert versions(history.build(tmp_path / "r", ["1.0.0"])) == ["1.0.0"]
    assert index.requests == ["/simple/zarr/"] * 3 + ["/files/zarr-1.0.0.tar.gz"]
    index.unavailable = 9
    with pytest.raises(StoreError, match=r"index cannot be reached: .*503"):
        history.build(tmp_path / "r", ["1.2.0"])


@pytest.mark.parametrize("files", ["../../files/", "http://{host}/files/"])
def test_an_index_that_asks_for_a_password(index, pip_asked, tmp_path, monkeypatch, files):
    """Relative addresses of files, as most indexes give them, and full ones on the same host."""
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:s%40crt@{index.host}/simple")
    for file in index.files:
        file["url"] = files.format(host=index.host) + str(file["filename"])
    history.build(tmp_path / "r", ["1.0.0"])
    assert index.requests == ["/simple/zarr/", "/files/zarr-1.0.0.tar.gz"]
    assert index.authorizations == ["Basic bWU6c0BjcnQ="] * 2


def test_a_password_stays_with_its_index(index, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:s%40crt@{index.host}/simple")
    for file in index.files:
        file["url"] = f"http://{index.host.replace('127.0.0.1', 'localhost')}/files/{file['filename']}"
    history.build(tmp_path / "r", ["1.0.0"])
    assert index.authorizations == ["Basic bWU6c0BjcnQ=", None]
    index.archives.clear()
    index.files.clear()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:s%40crt@{index.host}/nothing")
    with pytest.raises(StoreError) as caught:
        history.build(tmp_path / "r", ["1.2.0"])
    assert "crt" not in str(caught.value)


def test_what_pip_trusts_is_trusted(monkeypatch, tmp_path):
    """A file of pip's, its section for downloads before the global one, the environment before both."""
    (tmp_path / "pip.conf").write_text(
        "[global]\ncert = /global.pem\nindex-url = https://a.example/simple\n"
        "trusted-host = b.example\n  c.example:8443\n"
        "[download]\nindex-url = https://b.example/simple\nproxy = http://proxy.example:3128\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_CERT", "/environment.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/requests.pem")
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    client = package_index.PackageIndex("zarr")._client
    trusts: list[object] = []
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", lambda *_, verify, **__: trusts.append(verify))
    for url in ("https://a.example/", "https://b.example/", "https://b.example:444/", "https://c.example:8443/x"):
        client.s.get_adapter(url).send(requests.Request("GET", url).prepare(), verify="/requests.pem")
    assert trusts == ["/environment.pem", False, False, False]
    assert client.endpoint == "https://b.example/simple/"
    assert client.s.proxies == {"http": "http://proxy.example:3128", "https": "http://proxy.example:3128"}


def test_without_configuration_it_is_the_public_index(monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    assert package_index.PackageIndex("zarr")._client.endpoint.startswith("https://")


def test_the_command(index, pip_asked, tmp_path):
    done = CliRunner().invoke(command, ["--releases", "1.0.0, latest", "-o", str(tmp_path / "r.git")])
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'r.git'}: v1.0.0, v1.10.0\n")
