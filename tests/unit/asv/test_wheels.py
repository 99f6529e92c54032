"""The builds of wheels.toml; the real ones need a clone of zarr-python's history, named by ZCB_ZARR_REPO."""

import os
import subprocess
from pathlib import Path

import pytest

from harness.asv import wheels
from harness.errors import BadUseError, MeasurementError


@pytest.fixture
def repository(tmp_path):
    """A package of one commit whose build back end can be had offline only if it is installed."""
    path = tmp_path / "repository"
    path.mkdir()
    (path / "pyproject.toml").write_text("[build-system]\nrequires = []\nbuild-backend = 'nothing'\n")
    git = ["git", "-C", str(path), "-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(path)], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return path, done.stdout.strip()


def plan(monkeypatch, commit):
    monkeypatch.setattr(wheels, "planned", lambda: {"1.0a1+x": wheels.Build(commit)})


def test_a_build_that_fails_leaves_nothing_behind(repository, tmp_path, monkeypatch):
    path, commit = repository
    plan(monkeypatch, commit)
    with pytest.raises(MeasurementError, match=r"zarr 1\.0a1\+x cannot be built from"):
        wheels.build(path, tmp_path / "wheels")
    assert list((tmp_path / "wheels").iterdir()) == []


def test_a_commit_that_does_not_exist_is_said(repository, tmp_path, monkeypatch):
    plan(monkeypatch, "0" * 40)
    with pytest.raises(BadUseError, match="holds no commit 0000"):
        wheels.build(repository[0], tmp_path / "wheels")


@pytest.mark.skipif("ZCB_ZARR_REPO" not in os.environ, reason="ZCB_ZARR_REPO names no clone of zarr-python")
def test_3004_and_its_merge_base_become_wheels_that_say_what_they_are(tmp_path):
    made = wheels.build(Path(os.environ["ZCB_ZARR_REPO"]), tmp_path)
    assert [wheel.name.split("-")[1] for wheel in made] == list(wheels.planned())
    assert all(wheel.stat().st_size > 0 for wheel in made)
    assert {path.name for path in tmp_path.iterdir()} == {wheel.name for wheel in made}
