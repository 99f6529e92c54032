"""Emulators of the clouds: built once into the user's cache, run on loopback, seeded with the tiny data sets.

They take minutes to build, so a test has one only where the variable below asks for it (docs/targets.md).
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore

from setup_data import presets, write
from tests.conftest import s3_client

VARIABLE = "ZCB_EMULATORS"
BUCKET = "bench"
_START_SECONDS = 180
_AZURE_VERSION = "2021-08-06"


@dataclass(frozen=True, kw_only=True)
class Program:
    """An emulator's program at one version, in the user's cache."""

    name: str
    version: str
    tool: str
    """What installs it: ``go`` or ``npm``."""
    package: str
    binary: str
    """The program, below the folder that it is installed to."""

    def path(self) -> Path:
        """Return the program, installed when it is missing; the test is skipped where that is not asked for."""
        if os.environ.get(VARIABLE) != "1":
            pytest.skip(f"{self.name} takes minutes to build: set {VARIABLE}=1 to test against it")
        if shutil.which(self.tool) is None:
            pytest.skip(f"{self.tool} is not installed, which builds {self.name}")
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zarr-cloud-bench" / "emulators"
        folder = cache / f"{self.name}-{self.version}"
        if not folder.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                self._install(Path(scratch) / "new")
                (Path(scratch) / "new").rename(folder)
        return folder / self.binary

    def _install(self, folder: Path) -> None:
        folder.mkdir()
        wanted = f"{self.package}@{self.version}"
        commands: Mapping[str, tuple[list[str], dict[str, str]]] = {
            "go": (["go", "install", wanted], {"GOBIN": str(folder)}),
            "npm": (["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), wanted], {}),
        }
        command, environment = commands[self.tool]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.fail(f"{self.name} could not be installed: {' '.join(done.stderr.split())[-500:]}")


VERSITYGW = Program(
    name="versitygw",
    version="v1.8.0",
    tool="go",
    package="github.com/versity/versitygw/cmd/versitygw",
    binary="versitygw",
)
AZURITE = Program(
    name="azurite", version="3.37.0", tool="npm", package="azurite", binary="node_modules/.bin/azurite-blob"
)
FAKE_GCS = Program(
    name="fake-gcs-server",
    version="v1.56.1",
    tool="go",
    package="github.com/fsouza/fake-gcs-server",
    binary="fake-gcs-server",
)


@dataclass(frozen=True, kw_only=True)
class Running:
    """An emulator with an empty bucket, or one that holds the tiny data sets where it cannot be written to."""

    table: str
    """The target's table of targets.toml."""
    environment: Mapping[str, str]
    """Credentials, as the cloud's standard chain looks for them."""


@contextlib.contextmanager
def versitygw(folder: Path) -> Iterator[Running]:
    """S3, on a directory."""
    keys = {"AWS_ACCESS_KEY_ID": secrets.token_hex(8), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
    root = {"ROOT_ACCESS_KEY": keys["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": keys["AWS_SECRET_ACCESS_KEY"]}
    program, port = VERSITYGW.path(), _free_port()
    (folder / "data").mkdir()
    (folder / "sidecar").mkdir()
    command = [program, "--port", f"127.0.0.1:{port}", "posix", "--sidecar", folder / "sidecar", folder / "data"]
    with _running(list(map(str, command)), port, folder, root):
        endpoint = f"http://127.0.0.1:{port}"
        s3_client(endpoint, *keys.values()).create_bucket(Bucket=BUCKET)
        table = f'url = "s3://{BUCKET}/some/where"\nendpoint = "{endpoint}"\nregion = "us-east-1"\n'
        yield Running(table=table, environment=keys)


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Running]:
    """Azure Blob Storage."""
    account, key = "tester", base64.b64encode(secrets.token_bytes(64)).decode()
    program, port = AZURITE.path(), _free_port()
    command = [str(program), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    options = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    with _running([*command, *options], port, folder, {"AZURITE_ACCOUNTS": f"{account}:{key}"}):
        endpoint = f"http://127.0.0.1:{port}/{account}"
        _create_container(endpoint, account, key)
        table = f'url = "az://{BUCKET}/some/where"\naccount = "{account}"\nendpoint = "{endpoint}"\n'
        yield Running(table=table, environment={"AZURE_STORAGE_ACCOUNT_KEY": key})


@contextlib.contextmanager
def fake_gcs(folder: Path) -> Iterator[Running]:
    """Google Cloud Storage; it does not know the uploads that obstore makes, so the data are put there beforehand."""
    program, port = FAKE_GCS.path(), _free_port()
    address = f"127.0.0.1:{port}"
    command = [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    with _running([*command, "-public-host", address, "-external-url", f"http://{address}"], port, folder, {}):
        _seed(f"http://{address}", "some/where")
        table = f'url = "gs://{BUCKET}/some/where"\nendpoint = "http://{address}"\nanonymous = true\n'
        yield Running(table=table, environment={})


@contextlib.contextmanager
def _running(command: Sequence[str], port: int, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a server until the context is left; it has `_START_SECONDS` to take connections."""
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log) as process,
    ):
        try:
            _await(port, process, folder / "log")
            yield
        finally:
            process.terminate()


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    pytest.fail(f"the emulator does not take connections: {log.read_text(errors='replace')[-500:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _create_container(endpoint: str, account: str, key: str) -> None:
    """Create a container with a request signed by the account's key: obstore has no call for it."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _AZURE_VERSION}
    path = urllib.parse.urlsplit(endpoint).path
    signed = "".join(f"{name}:{value}\n" for name, value in headers.items())
    # Eleven standard headers stand empty between the verb and ours.
    text = f"PUT{12 * chr(10)}{signed}/{account}{path}/{BUCKET}\nrestype:container"
    digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
    headers |= {"Authorization": f"SharedKey {account}:{base64.b64encode(digest).decode()}", "Content-Length": "0"}
    _ask(f"{endpoint}/{BUCKET}?restype=container", None, headers, method="PUT")


def _seed(address: str, prefix: str) -> None:
    """Put the tiny data sets under `prefix`, by the JSON API."""
    written = MemoryStore()
    for spec in presets.specs("tiny", ()):
        write.write(written, spec)
    body = json.dumps({"name": BUCKET}).encode()
    _ask(f"{address}/storage/v1/b?project=tests", body, {"Content-Type": "application/json"})
    for meta in obstore.list(written).collect():
        query = urllib.parse.urlencode({"uploadType": "media", "name": f"{prefix}/{meta['path']}"})
        content = bytes(obstore.get(written, meta["path"]).bytes())
        _ask(f"{address}/upload/storage/v1/b/{BUCKET}/o?{query}", content, {"Content-Type": "binary/octet-stream"})


def _ask(url: str, body: bytes | None, headers: Mapping[str, str], method: str = "POST") -> None:
    request = urllib.request.Request(url, data=body, headers=dict(headers), method=method)  # noqa: S310 - loopback
    try:
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        pytest.fail(f"{url} answers {error.code}: {error.read()[:500]!r}")
