"""Wheels of zarr commits, each with a version of its own, for asv's matrix environments.

asv takes bare versions only (it mangles paths and URLs), so builds are told apart by local version labels, and pip
finds them in a folder through ``PIP_FIND_LINKS``.
"""

import logging
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from packaging.version import InvalidVersion, Version

from harness.errors import BadUseError, MeasurementError
from harness.machine import git
from harness.paths import shipped

_log = logging.getLogger(__name__)

_VERSION_VARIABLE = "SETUPTOOLS_SCM_PRETEND_VERSION"


class Build(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of wheels.toml."""

    commit: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{40}$")]


def planned(file: Path | None = None) -> dict[str, Build]:
    """Return the builds by version, by default those of wheels.toml; a BadUseError says what is wrong with it."""
    file = file or shipped("wheels.toml")
    try:
        tables = tomllib.loads(file.read_text())
        builds = {version: msgspec.convert(table, Build) for version, table in tables.items()}
        for version in builds:
            if str(Version(version)) != version:  # it becomes part of a file's name
                raise BadUseError(f"{file}: write version {version[:80]!r} as {str(Version(version))!r}")
        return builds
    except OSError as error:
        raise BadUseError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError, InvalidVersion) as error:
        raise BadUseError(f"{file}: {error}") from error


def build(repository: Path, output: Path) -> list[Path]:
    """Build the wheels of wheels.toml that `output` does not hold yet, and return all of them.

    Parameters
    ----------
    repository
        A local clone of zarr-python that holds the commits (``git clone --mirror`` brings pull requests along).
    output
        Folder for the wheels; a wheel appears there whole or not at all.

    Raises
    ------
    BadUseError
        Not a repository, or a commit it does not hold.
    MeasurementError
        A build failed.
    """
    builds = planned()
    try:
        git.run(repository, "rev-parse", "--git-dir")
    except git.GitError as error:
        raise BadUseError(f"{repository} is no repository: {error}") from error
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadUseError(f"cannot keep wheels in {output}: {error.strerror}") from error
    wheels = []
    for version, entry in builds.items():
        wheel = output / f"zarr-{version}-py3-none-any.whl"
        if not wheel.exists():
            _log.info(f"building zarr {version} from {entry.commit[:9]}")
            _build(repository, entry.commit, version, output)
        wheels.append(wheel)
    return wheels


def _build(repository: Path, commit: str, version: str, output: Path) -> None:
    with tempfile.TemporaryDirectory(dir=output, prefix=".build-") as scratch:
        source, made = Path(scratch, "source"), Path(scratch, "wheel")
        git.check_out(repository, commit, source)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(made), str(source)]
        done = subprocess.run(
            command, env={**os.environ, _VERSION_VARIABLE: version}, capture_output=True, text=True, check=False
        )
        found = list(made.glob(f"zarr-{version}-*.whl")) if made.is_dir() else []
        if done.returncode or not found:
            reason = (done.stderr.strip().splitlines() or ["no wheel of that version came out"])[-1]
            raise MeasurementError(f"zarr {version} cannot be built from {commit[:9]}: {reason}")
        found[0].replace(output / found[0].name)
