"""What tests share: a state directory of their own and the embedded store, started as a user starts it.

Each of pytest's workers (`pytest -n 4`) is a session with a state directory and a store of its own.
"""

import logging
import os
import sys
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from playwright.sync_api import Browser

from harness.errors import BadUseError
from harness.machine import environment, log, rust
from harness.machine.lifeline import die_with_parent
from harness.machine.log import progress_to
from harness.store import lifecycle
from harness.store.control import StoreControl
from harness.store.lifecycle import StoreSettings
from harness.store.state import StoreState
from tests.support import alone, guard
from tests.support.chromium import chromium

# Where a shell has turned bytecode off, each of our processes would compile what it imports, and pytest every test.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_configure(config: pytest.Config) -> None:
    """Let a worker end with the run that started it, which may be killed."""
    if hasattr(config, "workerinput"):
        die_with_parent()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count every test with a browser as slow."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test marked ``alone``, and what is made for it, while the other workers wait."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with alone.turn(Path(item.config.option.basetemp).parent, alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(autouse=True)
def _without_settings() -> Iterator[None]:
    """Let no test see what a library or a reader set in this process before, as dask does for its workers."""
    _forget_settings()
    yield
    _forget_settings()  # what the next module's tests share is made before the first of them


def _forget_settings() -> None:
    for name in environment.left_out():
        os.environ.pop(name, None)
    if "zarr" in sys.modules:
        sys.modules["zarr"].config.reset()
    if "dask" in sys.modules:
        sys.modules["dask"].config.refresh()


@pytest.fixture(scope="session", autouse=True)
def _guard(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing that the session starts outlives it, even when it is killed."""
    guard.start(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session", autouse=True)
def state_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state directory for the session: no test sees or stops the store that a user has running.

    Nor does a test see settings of the user's for the libraries that are measured, or what was tuned here.
    """
    directory = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        for name in environment.left_out():
            patch.delenv(name)
        patch.setenv("ZCB_STATE_DIR", str(directory))
        patch.setenv("ZCB_TUNINGS", str(directory / "tunings.toml"))
        yield directory


@pytest.fixture(scope="session")
def store_binary() -> Path:
    """The store's program, built when it is out of date."""
    try:
        return rust.STORE.build()
    except BadUseError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def rust_reader() -> Path:
    """The Rust reader's program, built when it is out of date."""
    try:
        return rust.ZARRS_READER.build()
    except BadUseError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def embedded_store(store_binary: Path, state_directory: Path) -> Iterator[StoreState]:
    """A running store without service time; the target `embedded` of this session."""
    yield lifecycle.start(StoreSettings(profile="loopback"))
    lifecycle.stop()


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    """Take away who was given our modules' lines in a test, in this process: the next one may print JSON there."""
    loggers = [logging.getLogger(name) for name in log.OURS]
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The lines that our modules log, as commands show them."""
    lines: list[str] = []
    with progress_to(lines.append):
        yield lines


@pytest.fixture
def own_state(store_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory for one test; what it started there is stopped."""
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path / "state"))
    yield tmp_path / "state"
    lifecycle.stop()


@pytest.fixture
def control(embedded_store: StoreState) -> Iterator[StoreControl]:
    """The control port of `embedded_store`."""
    with StoreControl(embedded_store.control) as client:
        yield client


def s3_client(endpoint: str, access_key: str = "any", secret_key: str = "any", **options: Any) -> Any:  # noqa: S107
    """A boto3 client that shows the first answer: it does not retry."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, **options),
    )


@pytest.fixture(scope="session")
def s3(embedded_store: StoreState) -> Any:
    """A boto3 client of `embedded_store`."""
    return s3_client(embedded_store.endpoint)


@pytest.fixture
def bucket(s3: Any) -> str:
    """An empty bucket."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; it ends with the module, since no asyncio test can run while it is there."""
    with chromium() as running:
        yield running
