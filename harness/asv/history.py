"""The releases of zarr as a git repository: for asv to walk through time where no git host is in reach.

One commit per release, in version order on branch ``main``, its tree the unpacked source distribution, tagged
``vX.Y.Z`` so that the wheel built from it has the release's version. The author date is the time of upload,
as the package index tells it; the committer date is the same, but at least a minute after the one before it,
because a release of an older series can come late. Nothing else goes into a commit: the same releases give
the same hashes.

The package index is the one that pip is configured to use.
"""

import contextlib
import fcntl
import logging
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
from packaging.version import InvalidVersion, Version
from pypi_simple import DistributionPackage

from harness.asv.package_index import PackageIndex
from harness.errors import BadUseError, StoreError
from harness.machine import git

_log = logging.getLogger(__name__)

PACKAGE = "zarr"
LATEST = "latest"

_IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "release history"), ("EMAIL", "release-history@localhost"))
}
_OURS = "releasehistory.package"  # in the repository's configuration: it may be replaced


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A release as a commit."""

    version: str
    tree: str
    """Hash of its git tree."""
    date: int
    """Time of upload, in seconds since 1970."""


def build(directory: Path, releases: list[str]) -> list[Release]:
    """Make `directory` a repository that holds at least `releases`; return all that it holds, oldest first.

    Releases that are there already stay, and keep their commits unless one is inserted before them: results
    may have been recorded for them. Nothing is fetched and nothing changes when all are there.

    Parameters
    ----------
    directory
        The repository; created, or replaced as a whole by a rename.
    releases
        Versions such as ``3.3.0``, and ``latest`` for the newest final one. When the index cannot be reached,
        ``latest`` is the newest one that is there.

    Raises
    ------
    BadUseError
        No such release, a directory that is something else, or no pip to ask for the index.
    StoreError
        The package index cannot be reached.
    """
    if not releases:
        raise BadUseError("no release given: name some as in --releases 3.2.1,3.3.0,latest")
    releases = [_spelled(release) for release in releases]
    _present(directory)  # refuses what is not ours before a lock file is left beside it
    with _locked(directory):
        present = _present(directory)
        index = PackageIndex(PACKAGE)
        wanted = {_latest(present, index) if release == LATEST else release for release in releases}
        missing = sorted(wanted - present.keys(), key=Version)
        if missing:
            _rebuild(directory, present, index, {version: index.sdist(version) for version in missing})
        return _in_order(_present(directory).values())


def _in_order(releases: Iterable[Release]) -> list[Release]:
    return sorted(releases, key=lambda release: Version(release.version))


def _spelled(release: str) -> str:
    try:
        return release if release == LATEST else str(Version(release))
    except InvalidVersion:
        raise BadUseError(f"{release!r} is not a release: give versions such as 3.3.0, or latest") from None


def _latest(present: dict[str, Release], index: PackageIndex) -> str:
    try:
        return index.latest()
    except StoreError as error:
        if not present:
            raise
        newest = max(present, key=Version)
        _log.info(f"{error}; latest is taken to be {newest}, the newest one present")
        return newest


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time work on `directory`."""
    try:
        directory.absolute().parent.mkdir(parents=True, exist_ok=True)
        lock = directory.absolute().with_name(f".{directory.name}.lock").open("wb")
    except OSError as error:
        raise BadUseError(f"cannot write {directory}: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _present(directory: Path) -> dict[str, Release]:
    """Return the releases that the repository holds; it must be empty or made by `build`."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return {}
    if not directory.is_dir() or not _is_ours(directory):
        raise BadUseError(f"{directory} holds something else: give -o a new or an empty directory")
    form = "--format=%(refname:lstrip=2)%09%(tree)%09%(authordate:unix)"
    lines = _git(directory, "for-each-ref", form, "refs/tags").splitlines()
    fields = (line.split("\t") for line in lines)
    return {tag[1:]: Release(version=tag[1:], tree=tree, date=int(date)) for tag, tree, date in fields}


def _is_ours(directory: Path) -> bool:
    config = directory / ".git" / "config"
    return config.is_file() and _git(directory, "config", "--get", "--default=", _OURS) == PACKAGE


def _rebuild(
    directory: Path, present: Mapping[str, Release], index: PackageIndex, missing: Mapping[str, DistributionPackage]
) -> None:
    """Write the repository anew beside the old one, whose trees it takes over, and give it the name."""
    with tempfile.TemporaryDirectory(dir=directory.absolute().parent, prefix=f".{directory.name}.") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        _initialize(new)
        if present:
            _git(new, "fetch", "--quiet", "--no-tags", str(directory.absolute()), "main")
        releases = list(present.values())
        for version, sdist in missing.items():
            _log.info(f"fetching {sdist.filename}")
            tree = _tree(new, index.download(sdist, Path(temporary)))
            assert sdist.upload_time is not None  # noqa: S101 - the index promises it
            releases.append(Release(version=version, tree=tree, date=int(sdist.upload_time.timestamp())))
        _commit_all(new, _in_order(releases))
        if directory.exists():
            directory.rename(old)
        new.rename(directory)


def _initialize(repository: Path) -> None:
    _git(None, "init", "--quiet", "--template=", "--initial-branch=main", str(repository))
    for name, value in {"core.autocrlf": "false", "gc.auto": "0", _OURS: PACKAGE}.items():
        _git(repository, "config", name, value)


def _tree(repository: Path, archive: Path) -> str:
    """Store the files of a source distribution as a tree; return its hash."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as directory:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(directory, filter="data")
        except tarfile.TarError as error:
            raise StoreError(f"{archive.name} cannot be unpacked: {error}") from error
        (top,) = Path(directory).iterdir()
        _git(repository, "read-tree", "--empty")
        _git(repository, "--work-tree", str(top), "add", "--all", "--force", ".")
        return _git(repository, "write-tree")


def _commit_all(repository: Path, releases: list[Release]) -> None:
    parent: list[str] = []
    committed = 0
    for release in releases:
        committed = max(release.date, committed + 60)
        commit = _git(
            repository,
            "commit-tree",
            *parent,
            "-m",
            f"{PACKAGE} {release.version}",
            release.tree,
            GIT_AUTHOR_DATE=f"{release.date} +0000",
            GIT_COMMITTER_DATE=f"{committed} +0000",
        )
        _git(repository, "tag", f"v{release.version}", commit)
        parent = ["-p", commit]
    _git(repository, "reset", "--quiet", "--hard", parent[1])


def _git(repository: Path | None, *arguments: str, **variables: str) -> str:
    """Run git as nobody in particular."""
    return git.run(repository, *arguments, alone=True, **_IDENTITY | variables)
