"""Sides that differ in the zarrs crate: our Rust reader, built against another zarrs.

``crate:0.23.13`` is that release, ``crate:PATH`` a directory with a working tree of zarrs or of any other crate that
the reader is built with, ``crate:REVISION`` a commit, branch or tag of zarrs' repository, and ``=`` what the reader is
built with anyway.
"""

import logging
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from harness.errors import BadUseError, MeasurementError
from harness.machine import git
from harness.machine.programs import called
from harness.machine.rust import WORKSPACE, ZARRS_READER, find_cargo
from harness.paths import repository_file, state_dir
from harness.readers import all_readers
from harness.readers.zarrs import BINARY_VARIABLE, built_with_main
from harness.verdict import builds
from harness.verdict.sides import AS_IT_IS, Side, is_release

_log = logging.getLogger(__name__)

PREFIX = "crate:"
REPOSITORY_VARIABLE = "ZCB_ZARRS_REPO"
"""Environment variable with zarrs' repository, a URL or a path, instead of the public one."""
COMMIT_VARIABLE = "ZCB_ZARRS_COMMIT"
"""Variable of a build whose value the reader names among its versions."""
PUBLIC_REPOSITORY = "https://github.com/zarrs/zarrs.git"

_PACKAGE = "zarrs"
_REQUIREMENT = r'^({name} = )("[^"]+"$|\{{ version = "[^"]+")'
_LOCKED = re.compile(rf'^name = "{_PACKAGE}"\nversion = "([^"]+)"', re.MULTILINE)


def readers() -> list[str]:
    """Return the readers that read with the crate."""
    return [name for name, reader in all_readers().items() if _PACKAGE in reader.crates]


def is_crate(spec: str) -> bool:
    """Whether `spec` names a zarrs crate rather than Python packages."""
    return spec.startswith(PREFIX)


def make(spec: str, configured: Mapping[str, str]) -> Side:
    """Return the side whose Rust readers are built with the zarrs that `spec` names, built once and kept.

    Raises
    ------
    BadUseError
        No such version, directory or revision, settings of zarr (which the crate does not have), or no cargo.
    MeasurementError
        The build failed: the first error is the message.
    """
    if configured:
        raise BadUseError(f"{spec} has no setting {next(iter(configured))!r}: settings are zarr-python's")
    repository_file("rust", instead="compare crates from a checkout of it")
    if spec == AS_IT_IS:
        return _side(spec, WORKSPACE, {})
    if not is_crate(spec):
        raise BadUseError(f"{spec} is no crate: compare crates with each other, or with {AS_IT_IS}")
    named = spec.removeprefix(PREFIX)
    if is_release(named):
        folder = _built(named, {_PACKAGE: f'version = "={named}"'}, "")
    elif named and Path(named).is_dir():
        tree = Path(named).resolve()
        folder = _built(f"tree-{builds.tree_digest(tree)}", *_members(tree))
    else:
        folder = _of_revision(named)
    return _side(spec, folder, {BINARY_VARIABLE: str(folder / ZARRS_READER.crate)})


def demand(spec: str) -> None:
    """Refuse what `make` would find no crate of, before anything is cloned or built."""
    named = spec.removeprefix(PREFIX)
    if is_crate(spec) and not is_release(named) and not (named and Path(named).is_dir()):
        builds.demand_revision(named)


def keep_main() -> Path:
    """Build the Rust reader with zarrs' main branch as it is now, for the rows with ``+main``; return the program.

    Raises
    ------
    BadUseError
        No repository of zarrs, or no cargo.
    MeasurementError
        The build failed: the first error is the message.
    """
    repository_file("rust", instead="build the readers in a checkout of it")
    folder, program = _of_revision("main"), built_with_main()
    program.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent.parent) as scratch:
        link = Path(scratch, "link")
        link.symlink_to(folder.resolve())
        link.replace(program.parent)  # at once: a pass may be starting it
    return program


def _of_revision(revision: str) -> Path:
    """Return the folder with the reader built with a revision of zarrs' repository."""
    clone = builds.clone_of(os.environ.get(REPOSITORY_VARIABLE) or PUBLIC_REPOSITORY)
    commit = builds.commit_of(clone, revision)
    tree = builds.cached_folder(f"zarrs-source-{commit[:12]}", lambda made: git.check_out(clone, commit, made))
    return _built(commit[:12], *_members(tree), commit=commit[:12])


def _side(spec: str, folder: Path, environment: Mapping[str, str]) -> Side:
    locked = _LOCKED.search((folder / "Cargo.lock").read_text())
    assert locked is not None  # noqa: S101 - the reader was built with it
    version, named = locked[1], spec.removeprefix(PREFIX)
    origin = "" if named in (version, AS_IT_IS) else f" ({named})"
    return Side(
        label=spec,
        detail=f"crate {_PACKAGE} {version}{origin}",
        environment=environment,
        versions={_PACKAGE: version},
    )


def _members(tree: Path) -> tuple[dict[str, str], str]:
    """Return how to depend on each crate of a directory, and the section that lets other crates use them too."""
    try:
        manifest = tomllib.loads((tree / "Cargo.toml").read_text())
        members = manifest["workspace"]["members"] if "workspace" in manifest else ["."]
        names = {tomllib.loads((tree / one / "Cargo.toml").read_text())["package"]["name"]: one for one in members}
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise BadUseError(f"{tree.name} is neither a crate nor a workspace of crates: {error}") from error
    needed = {one["name"] for one in tomllib.loads((WORKSPACE / "Cargo.lock").read_text())["package"]}
    if not needed & names.keys():
        raise BadUseError(f"{tree.name} holds no crate that {ZARRS_READER.called} is built with")
    paths = {name: f'path = "{tree / member}"' for name, member in names.items()}
    return paths, "\n[patch.crates-io]\n" + "".join(f"{name} = {{ {path} }}\n" for name, path in paths.items())


def _built(name: str, dependencies: Mapping[str, str], patches: str, commit: str | None = None) -> Path:
    """Return the folder with the reader's binary and its lock, from our sources with other dependencies."""
    cargo = find_cargo()
    if cargo is None:
        raise BadUseError("cargo is missing: install Rust (`zcb doctor` says which)")

    def build(folder: Path) -> None:
        _log.info(f"building {ZARRS_READER.called} with zarrs {name} (minutes the first time; kept) ...")
        sources = folder.with_name("sources")
        shutil.copytree(WORKSPACE, sources, ignore=shutil.ignore_patterns("target"))
        _depend(sources, dependencies, patches)
        _compile(cargo, sources, {} if commit is None else {COMMIT_VARIABLE: commit})
        _demand_used(sources / "Cargo.lock")
        folder.mkdir()
        shutil.copy2(_target() / "release" / ZARRS_READER.crate, folder)
        shutil.copy2(sources / "Cargo.lock", folder)

    return builds.cached_folder(f"crate-{name}-{ZARRS_READER.digest()}", build)


def _depend(sources: Path, dependencies: Mapping[str, str], patches: str) -> None:
    manifest = sources / ZARRS_READER.crate / "Cargo.toml"
    text = manifest.read_text()
    for name, where in dependencies.items():
        pattern = re.compile(_REQUIREMENT.format(name=re.escape(name)), re.MULTILINE)
        text = pattern.sub(lambda found, where=where: _replaced(found, where), text)  # type: ignore[misc]
    manifest.write_text(text)
    workspace = sources / "Cargo.toml"
    workspace.write_text(workspace.read_text() + patches)


def _replaced(requirement: re.Match[str], where: str) -> str:
    opened = requirement[2].startswith("{")
    return f"{requirement[1]}{{ {where}" + ("" if opened else " }")


def _compile(cargo: str, sources: Path, variables: Mapping[str, str]) -> None:
    """Build in a folder that all such builds share, so that only what depends on zarrs is compiled again."""
    command = [cargo, "build", "--release", "-p", ZARRS_READER.crate, "--manifest-path", str(sources / "Cargo.toml")]
    command += ["--target-dir", str(_target())]
    done = called(command, {**os.environ, **variables})
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("error")), "no message")
        raise MeasurementError(f"the build failed: {reason}")


def _demand_used(lock: Path) -> None:
    """Raise MeasurementError where cargo took the registry's crate instead of ours, of which it only warns."""
    told = tomllib.loads(lock.read_text())
    taken = {one["name"]: one["version"] for one in told["package"]}
    for left in told.get("patch", {}).get("unused", []):
        if (name := left["name"]) in taken:
            raise MeasurementError(f"{name} {left['version']} was not used: the reader needs {taken[name]}")


def _target() -> Path:
    return state_dir() / "sides" / "cargo"
