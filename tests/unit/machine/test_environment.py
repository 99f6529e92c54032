"""What processes that measure see of the environment: nothing that bends a figure, and what they see is named."""

import os
import random
import site
import sys
from pathlib import Path

import pytest

from harness.errors import BadUseError
from harness.machine import environment
from harness.measure.process import WorkerProcess
from harness.paths import ROOT
from harness.readers.base import Reader
from harness.readers.worker import PARENT_VARIABLE
from tests.support import hostile

ADDRESS = "http://192.0.2.1:1"
HOSTILE = hostile.variables(ADDRESS, Path("/nowhere"))
SEVERAL = 100
QUIET = {"LANG", "LC_ALL"}
"""Hostile variables that are replaced without a word: every process has one and the same."""


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """A home folder of the test's, and nothing put aside by another test."""
    monkeypatch.setattr(environment, "_set_aside", {})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def given(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_variable_changes_nothing_and_is_told(name, monkeypatch):
    before = environment.sealed()
    given(monkeypatch, {name: HOSTILE[name]})
    assert environment.sealed() == before
    assert environment.left_out() == ([] if name in QUIET else [name])
    assert name not in environment.let_in()


def test_any_of_them_together_change_nothing(monkeypatch):
    before, draw = environment.sealed(), random.Random(0)
    for _ in range(SEVERAL):
        with monkeypatch.context() as patch:
            given(patch, {name: HOSTILE[name] for name in draw.sample(sorted(HOSTILE), draw.randint(2, 8))})
            assert environment.sealed() == before


def test_credentials_and_roots_come_in_by_name(monkeypatch, clean):
    credentials = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret", "AZURE_STORAGE_SAS_TOKEN": "secret"}
    given(monkeypatch, credentials | {"SSL_CERT_FILE": "/roots.pem"})
    sealed = environment.sealed()
    assert {name: sealed[name] for name in (*credentials, "SSL_CERT_FILE")} == credentials | {
        "SSL_CERT_FILE": "/roots.pem"
    }
    names = environment.let_in(["ZARR_ASYNC__CONCURRENCY"])
    assert {*credentials, "SSL_CERT_FILE", "PATH", "ZARR_ASYNC__CONCURRENCY"} <= set(names)
    assert "secret" not in str(names)


def test_the_home_folder_holds_credentials_only(monkeypatch, clean):
    hostile.files(clean, ADDRESS)
    (clean / ".config" / "gcloud").mkdir()
    home = Path(environment.sealed()["HOME"])
    links = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_symlink()}
    assert links == {".aws/config", ".config/gcloud"}
    assert (home / ".aws" / "config").read_text() == (clean / ".aws" / "config").read_text()
    assert not (home / ".config" / "zarr").exists()
    assert {"~/.aws/config", "~/.config/gcloud"} <= set(environment.let_in())
    monkeypatch.setenv("HOME", str(home))
    assert environment.sealed()["HOME"] == str(home)  # a process that is sealed seals others alike


def test_a_file_named_by_the_home_folder_is_found_from_another(monkeypatch, clean):
    monkeypatch.setenv("AWS_CONFIG_FILE", "~/elsewhere/config")
    assert environment.sealed()["AWS_CONFIG_FILE"] == str(clean / "elsewhere" / "config")


def test_a_worker_has_the_sealed_environment_and_what_it_is_given(monkeypatch):
    seen = []

    class Seen(Reader):
        name = "seen"

        @classmethod
        def command(cls, environment):
            seen.append(dict(environment))
            return [sys.executable, "-c", "pass"]

        def open(self, workload):
            raise NotImplementedError

        def read(self):
            raise NotImplementedError

    given(monkeypatch, HOSTILE)
    WorkerProcess(Seen, {"ZARR_ASYNC__CONCURRENCY": "5"}).stop()
    expected = {"PYTHONPATH": str(ROOT), PARENT_VARIABLE: str(os.getpid()), "ZARR_ASYNC__CONCURRENCY": "5"}
    assert seen == [environment.sealed() | expected]


def test_what_is_left_out_is_told_in_one_line_without_values(monkeypatch, logged):
    given(monkeypatch, {"ZARR_ASYNC__CONCURRENCY": "17", "http_proxy": "http://user:secret@proxy", "FOO": "bar"})
    environment.admit()
    assert logged == [
        "left out of what is measured, as part of no result: ZARR_ASYNC__CONCURRENCY, http_proxy (docs/reliability.md)"
    ]
    assert "ZARR_ASYNC__CONCURRENCY" not in os.environ  # what reads in this process has none of it either
    assert os.environ["http_proxy"]  # pip and git need it


def test_nothing_is_told_where_nothing_is_left_out(logged):
    environment.admit()
    assert logged == []


def test_a_path_of_packages_is_told_unless_it_is_the_harness_s_own(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert environment.left_out() == []
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert environment.left_out() == ["PYTHONPATH"]


def test_a_variable_that_is_asked_for_is_let_in(monkeypatch, logged):
    given(monkeypatch, {"ZARR_ASYNC__CONCURRENCY": "17", "OMP_NUM_THREADS": "3"})
    assert environment.admit(["OMP_NUM_THREADS"]) == {"OMP_NUM_THREADS": "3"}
    assert logged == [
        "left out of what is measured, as part of no result: ZARR_ASYNC__CONCURRENCY (docs/reliability.md)"
    ]
    assert environment.admit(["ZARR_ASYNC__CONCURRENCY"]) == {"ZARR_ASYNC__CONCURRENCY": "17"}  # though put aside since


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("https_proxy", "nothing is measured through a proxy"),
        ("AWS_ENDPOINT_URL_S3", "the target's endpoint"),
        ("HOME", "is set for every process"),
        ("PYTHONPATH", "is set for every process"),
        ("ZARR_ASYNC__TIMEOUT", "it is not set"),
    ],
)
def test_a_variable_that_cannot_be_let_in_is_refused(name, reason, monkeypatch):
    if "not set" not in reason:
        monkeypatch.setenv(name, "anything")
    with pytest.raises(BadUseError, match=f"--env {name}: .*{reason}"):
        environment.admit([name])


def test_settings_of_zarr_inside_the_environment_of_python_are_refused(monkeypatch, tmp_path):
    (tmp_path / "etc" / "zarr").mkdir(parents=True)
    monkeypatch.setattr(site, "PREFIXES", [str(tmp_path)])
    with pytest.raises(BadUseError, match="holds settings of zarr"):
        environment.admit()


def test_a_client_that_is_made_directly_sees_no_proxy(monkeypatch):
    given(monkeypatch, {"http_proxy": ADDRESS, "HTTPS_PROXY": ADDRESS})
    with environment.direct():
        assert not {"http_proxy", "HTTPS_PROXY"} & set(os.environ)
    assert os.environ["http_proxy"] == os.environ["HTTPS_PROXY"] == ADDRESS
