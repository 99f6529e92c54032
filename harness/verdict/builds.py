"""What the sides of a comparison are made of: releases, commits and working trees, as folders to put on a path.

A wheel is built once per commit and kept; a folder appears whole or not at all.
"""

import hashlib
import importlib.metadata
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
from packaging.version import Version

from harness.errors import BadUseError, MeasurementError
from harness.machine import git
from harness.machine.log import last_line
from harness.machine.programs import called
from harness.paths import ZARR_REPOSITORY_VARIABLE, repository_file, state_dir
from harness.verdict.sides import AS_IT_IS, YANKED_FILE, ZARR, is_wheel, requirement, yanked

_log = logging.getLogger(__name__)

_VERSIONS = re.compile(r"\(from versions: ([^)]*)\)")
_YANKED = re.compile(r"^Reason for being yanked: (.*)$", re.MULTILINE)
_PULL_REQUESTS = "+refs/pull/*/head:refs/pull/*/head"
_MAIN = "main"
_UNTAGGED = re.compile(r"zarr-(0\.1\.dev.*|0\.0\.0.*)\.dist-info")
"""The folder of a zarr whose version no tag is behind: setuptools-scm's, and what others write."""


def overlay(spec: str, repository: str | None) -> Path | None:
    """Return the folder that makes a side of `spec`, built first where it is not kept.

    Parameters
    ----------
    spec
        A release of zarr (``3.2.1``), ``package==version``, a wheel of any package, a directory with a working tree,
        a revision of the repository, or ``=`` for this environment as it is.
    repository
        URL or path of zarr-python; None is `ZARR_REPOSITORY_VARIABLE`, else the one that asv.conf.json names.

    Raises
    ------
    BadUseError
        No such version, commit, directory or repository.
    MeasurementError
        A build failed.
    """
    if spec == AS_IT_IS:
        return None
    exact = requirement(spec)
    if is_wheel(spec):
        return _of_wheel(Path(spec).resolve())
    if exact is not None:
        return _of_release(exact)
    if _is_tree(spec):
        return _of_tree(Path(spec).resolve())
    clone = local_clone(repository)
    return _of_commit(clone, commit_of(clone, spec))


def installed() -> Path | None:
    """Return a folder with a copy of this environment's zarr, made as other sides' folders are; None where it cannot.

    So a comparison of ``=`` with another version holds two folders against each other, and not a folder against the
    environment's own. What is installed as a link to its sources has no files to copy.
    """
    found = importlib.metadata.distribution(ZARR)
    files = [file for file in found.files or () if ".." not in file.parts]
    if not any(file.parts[0] == ZARR for file in files):
        return None

    def copy(folder: Path) -> None:
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(file.locate()), folder / file)

    return cached_folder(f"installed-{ZARR}-{found.version}-{_digest(files)}", copy)


def _digest(files: Iterable[importlib.metadata.PackagePath]) -> str:
    """Return a digest of what an installed package's own record says of its files."""
    listed = sorted(f"{file} {file.hash.value if file.hash else ''}" for file in files)
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()[:12]


def _of_release(exact: str) -> Path:
    """Install a version from pip's index; one that was yanked is used with a warning, since it was named."""
    folder = cached_folder(exact.replace("==", "-"), lambda made: _install(exact, made))
    reason = yanked(folder)
    if reason is not None:
        _log.warning(f"{exact.replace('==', ' ')} was yanked: {reason}")
    return folder


def _of_wheel(wheel: Path) -> Path:
    """Install a wheel, kept under the hash of its bytes: builds of one version have one name."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()[:12]
    return cached_folder(f"wheel-{wheel.stem}-{digest}", lambda folder: _install(str(wheel), folder))


def _is_tree(spec: str) -> bool:
    return spec == "." or (os.sep in spec and Path(spec, "pyproject.toml").is_file())


def local_clone(repository: str | None) -> Path:
    """Return a local repository of zarr-python with its pull requests, cloned or fetched where it is a URL."""
    return clone_of(repository_named(repository))


def repository_named(repository: str | None) -> str:
    """Return the path or URL of zarr-python that is meant; a BadUseError says that it is neither, without a clone."""
    named = repository or os.environ.get(ZARR_REPOSITORY_VARIABLE) or _configured_repository()
    _demand_repository(named)
    return named


def _demand_repository(named: str) -> None:
    if Path(named).is_dir():
        if git.ask(Path(named), "rev-parse", "--git-dir") is None:
            raise BadUseError(f"{named} is not a git repository")
    elif "://" not in named:
        raise BadUseError(f"{named} is neither a directory nor a URL")


def clone_of(named: str) -> Path:
    """Return a local repository from a URL or a path; a BadUseError says that there is none."""
    _demand_repository(named)
    if Path(named).is_dir():
        return Path(named)
    mirror = state_dir() / "repositories" / f"{hashlib.sha256(named.encode()).hexdigest()[:12]}.git"
    if not mirror.is_dir():
        _log.info(f"cloning {named} with its pull requests (once) ...")
        _clone(named, mirror)
    elif git.ask(mirror, "fetch", "--quiet", "--prune", "origin", "+refs/heads/*:refs/heads/*", _PULL_REQUESTS) is None:
        _log.info(f"{named} cannot be reached: what was fetched before is used")
    return mirror


def _configured_repository() -> str:
    file = repository_file("asv.conf.json", instead=f"name zarr-python's by --repo or {ZARR_REPOSITORY_VARIABLE}")
    conf = msgspec.json.decode(file.read_bytes())
    return str(conf["repo"])


def _clone(url: str, mirror: Path) -> None:
    mirror.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=mirror.parent) as scratch:
        made = Path(scratch, "clone")
        try:
            git.run(None, "clone", "--quiet", "--mirror", "--", url, str(made))
        except git.GitError as error:
            raise BadUseError(f"{url} cannot be cloned: {error}") from error
        made.rename(mirror)


def demand(spec: str) -> None:
    """Refuse what `overlay` would find no version of, before anything is cloned or built."""
    if spec != AS_IT_IS and requirement(spec) is None and not _is_tree(spec):
        demand_revision(spec)
    if is_wheel(spec) and not Path(spec).is_file():
        raise BadUseError(f"there is no wheel {spec}")


def demand_revision(word: str) -> None:
    """Refuse what no repository would hold."""
    if not word.strip() or word.startswith("-"):
        raise BadUseError(f"{word!r} is not a revision")
    if word.startswith((os.sep, f".{os.sep}", f"..{os.sep}")):
        raise BadUseError(f"{word} is not a directory with sources to build")


def commit_of(clone: Path, revision: str) -> str:
    """Return the full hash of a revision; a BadUseError says that the repository does not hold it."""
    demand_revision(revision)
    own, origins = _commit_at(clone, revision), _commit_at(clone, f"refs/remotes/origin/{revision}")
    if own and origins and revision == _MAIN and own != origins and _is_ancestor(clone, own, origins):
        behind = git.run(clone, "rev-list", "--count", f"{own}..{origins}")
        _log.info(f"main is {clone}'s own ({own[:9]}), {behind} commits behind origin/main: name that to take it")
    found = own or origins
    if found is None:
        raise BadUseError(
            f"{clone.name} holds no revision {revision!r}: name a release (3.2.1), a commit, a branch or a directory"
        )
    return found


def _commit_at(clone: Path, revision: str) -> str | None:
    return git.ask(clone, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")


def _is_ancestor(clone: Path, commit: str, descendant: str) -> bool:
    return git.ask(clone, "merge-base", "--is-ancestor", commit, descendant) is not None


def _newest_main(clone: Path) -> str:
    """Return main as it was last fetched, or the clone's own where that is ahead of it.

    Against a main that was not pulled for long a pull request would be charged with the commits of others.
    """
    origins = _commit_at(clone, f"refs/remotes/origin/{_MAIN}")
    if origins is None:
        return commit_of(clone, _MAIN)
    own = _commit_at(clone, f"refs/heads/{_MAIN}")
    return own if own and _is_ancestor(clone, origins, own) else origins


class PullRequest(NamedTuple):
    """A pull request as the repository knows it."""

    base: str
    head: str
    title: str | None
    """None where no commit tells."""


def pull_request(clone: Path, number: int) -> PullRequest:
    """Return base and head of a pull request: merge base and head, or, once merged, its commit's parent and its commit.

    A squashed or merged pull request is found by the number that its commit's subject carries, and has its title there
    or in the line after it. One that is open has the title of its commit where it has a single one.

    Raises
    ------
    BadUseError
        The repository holds no such pull request.
    """
    main = _newest_main(clone)
    subject = rf"(\(#{number}\)$|^Merge pull request #{number} )"
    merged = git.ask(clone, "log", main, "--first-parent", "-1", "--format=%H", "-E", f"--grep={subject}")
    if merged:
        parent = commit_of(clone, f"{merged}^1")
        _log.info(f"base {parent[:9]} is the parent of the commit that merged it, of {_day(clone, merged)}")
        return PullRequest(parent, merged, _merged_title(clone, merged, number))
    head = _commit_at(clone, f"refs/pull/{number}/head")
    if head is None:
        raise BadUseError(_no_pull_request(clone, number))
    base = git.ask(clone, "merge-base", main, head)
    if base is None:
        raise BadUseError(f"pull request {number} and main have no commit in common")
    commits = git.run(clone, "log", "--format=%s", f"{base}..{head}").splitlines()
    _log.info(
        f"base {base[:9]} is the merge base with main of {_day(clone, main)}; "
        f"commits in the pull request: {len(commits)}"
    )
    return PullRequest(base, head, commits[0] if len(commits) == 1 else None)


def _day(clone: Path, commit: str) -> str:
    return git.run(clone, "log", "-1", "--format=%cs", commit)


def _no_pull_request(clone: Path, number: int) -> str:
    """Say that there is none, and whether that is the number's fault or the clone's."""
    listed = git.run(clone, "for-each-ref", "--format=%(refname)", "refs/pull/*/head").splitlines()
    numbers = [int(part) for name in listed if (part := name.split("/")[2]).isdecimal()]
    if numbers:
        return f"{clone} has no pull request {number}; its newest is {max(numbers)}: fetch, or there is none"
    return f"{clone.name} holds no pull request {number}: a mirror does (git clone --mirror), a plain clone does not"


def _merged_title(clone: Path, commit: str, number: int) -> str | None:
    """Return the title in the message of a squashed commit, or of a merge, which has it below its subject."""
    subject, _, body = git.run(clone, "log", "-1", "--format=%s%n%b", commit).partition("\n")
    squashed = subject.removesuffix(f"(#{number})").strip()
    return squashed if squashed != subject else next((line for line in body.splitlines() if line.strip()), None)


def _of_commit(clone: Path, commit: str) -> Path:
    def build(folder: Path) -> None:
        _log.info(f"building zarr from {commit[:9]} (kept for the next time) ...")
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            source = Path(scratch, "source")
            git.check_out(clone, commit, source)
            _build(source, clone, folder)

    return cached_folder(f"zarr-{commit[:12]}", build)


def _of_tree(tree: Path) -> Path:
    """Build a working tree, uncommitted changes included; kept under the hash of its files and its place in history.

    The latter is part of what is built: zarr's version is made of tags.
    """
    digest = tree_digest(tree)  # says where it is no git tree
    described = git.ask(tree, "describe", "--tags", "--always") or ""
    place = hashlib.sha256(described.encode()).hexdigest()[:8]
    return cached_folder(f"tree-{digest}-{place}", lambda folder: _build(tree, tree, folder))


def _build(source: Path, repository: Path, folder: Path) -> None:
    """Install zarr from its sources, and refuse one whose repository has no tags to make its version of."""
    _install(str(source), folder)
    version = next((found[1] for path in folder.glob("zarr-*.dist-info") if (found := _UNTAGGED.match(path.name))), "")
    if version:
        shallow = git.ask(repository, "rev-parse", "--is-shallow-repository") == "true"
        command = f"git fetch --tags{' --unshallow' if shallow else ''}"
        raise BadUseError(f"{repository} has no v* tags, so its version is {version}: {command} there")


def tree_digest(tree: Path) -> str:
    """Return a digest of a git working tree's files, uncommitted changes included."""
    listed = git.ask(tree, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    if listed is None:
        raise BadUseError(f"{tree} is not a git working tree")
    digest = hashlib.sha256(str(tree).encode())
    for name in sorted(filter(None, listed.split("\0"))):
        path = tree / name
        if path.is_file():
            digest.update(os.fsencode(name) + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def cached_folder(name: str, build: Callable[[Path], None]) -> Path:
    """Return the folder called `name` among the kept ones, made by `build` where it is not there."""
    folder = state_dir() / "sides" / f"py{sys.version_info.major}{sys.version_info.minor}-{name}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        build(scratch / "side")
        _moved(scratch / "side", folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _moved(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another run was faster
            raise


def _install(what: str, folder: Path) -> None:
    """Install one package without its dependencies, which are this environment's, into a folder."""
    _log.info(f"installing {what if '==' in what else 'it'} ...")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), what]
    done = called(command)
    if done.returncode:
        reason = pips_reason(done.stderr)
        if "==" in what or is_wheel(what):
            raise BadUseError(_missing(what, done.stderr) or f"{what} cannot be installed: {reason}")
        raise MeasurementError(f"the build failed: {reason}")
    said = _YANKED.search(done.stderr)
    if said is not None:
        (folder / YANKED_FILE).write_text(said[1])


def pips_reason(said: str) -> str:
    """Return the line of what pip printed that says why it failed."""
    line = next((line for line in said.splitlines() if "ERROR" in line), last_line(said))
    return line.replace("ERROR:", "").strip()


def _missing(exact: str, complaint: str) -> str | None:
    """Return in words that a version does not exist; None where pip complains of something else."""
    listed = _VERSIONS.search(complaint)
    if listed is None:
        return None
    name, version = exact.split("==")
    known = [Version(one) for one in listed[1].split(", ") if one != "none"]
    if not known:
        return f"pip's package index knows no {name}, or cannot be reached"
    newest = max(known, key=lambda one: (not one.is_prerelease, one))
    return f"{name} {version} does not exist: the newest is {newest}"
