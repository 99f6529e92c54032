"""The releases of zarr as a git repository: for asv to walk through time where no git host is in reach.

One commit per release, in version order on branch ``main``, its tree the unpacked source distribution, tagged
``vX.Y.Z`` so that the wheel built from it has the release's version. The author date is the time of upload,
as the package index tells it; the committer date is the same, but at least a minute after the one before it,
because a release of an older series can come late. Nothing else goes into a commit: the same releases give
the same hashes.

The package index is the one that pip is configured to use. Source distributions are fetched from it directly
and checked against its SHA-256: ``pip download`` would build the metadata of each, in an environment of its
own, only to hand over the file.
"""

import base64
import contextlib
import datetime
import fcntl
import hashlib
import io
import logging
import os
import re
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import msgspec
from packaging.utils import InvalidSdistFilename, parse_sdist_filename
from packaging.version import InvalidVersion, Version

from harness.errors import BadUseError, StoreError

_log = logging.getLogger(__name__)

PACKAGE = "zarr"
LATEST = "latest"

_IDENTITY = ("release history", "release-history@localhost")
_OURS = "releasehistory.package"  # in the repository's configuration: it may be replaced
_INDEX_JSON = "application/vnd.pypi.simple.v1+json"
_TIMEOUT_S = 60.0
_PAUSE_S = 1.0  # before another attempt
_SERVER_ERROR = 500


class _File(msgspec.Struct, frozen=True):
    """One file in the package index's answer (PEP 691 and 700)."""

    filename: str
    url: str
    hashes: dict[str, str]
    uploaded: datetime.datetime = msgspec.field(name="upload-time")
    yanked: bool | str = False


class _Page(msgspec.Struct, frozen=True):
    files: list[_File]


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
        index = _Index()
        wanted = _resolved(releases, present, index)
        missing = sorted(wanted - present.keys(), key=Version)
        if missing:
            _rebuild(directory, present, {version: index.sdist(version) for version in missing}, index)
        return sorted(_present(directory).values(), key=lambda release: Version(release.version))


def _resolved(releases: list[str], present: dict[str, Release], index: "_Index") -> set[str]:
    """Return the versions asked for; ``latest`` becomes a version."""
    return {_latest(present, index) if release == LATEST else release for release in releases}


def _spelled(release: str) -> str:
    try:
        return release if release == LATEST else str(Version(release))
    except InvalidVersion:
        raise BadUseError(f"{release!r} is not a release: give versions such as 3.3.0, or latest") from None


def _latest(present: dict[str, Release], index: "_Index") -> str:
    try:
        return index.latest()
    except StoreError as error:
        if not present:
            raise
        newest = max(present, key=Version)
        _log.info(f"{error}; latest is taken to be {newest}, the newest one present")
        return newest


class _Index:
    """The package index that pip uses; asked at most once, and not before it is needed."""

    def __init__(self) -> None:
        self._sdists: dict[str, _File] = {}
        self._settings: dict[str, str] = {}

    def latest(self) -> str:
        """Return the newest final release that was not withdrawn."""
        final = [
            version for version, file in self._files().items() if not (file.yanked or Version(version).is_prerelease)
        ]
        return max(final, key=Version)

    def sdist(self, version: str) -> _File:
        """Return where the source distribution of `version` is."""
        file = self._files().get(version)
        if file is None:
            newest = ", ".join(sorted(self._files(), key=Version)[-5:])
            raise BadUseError(f"{PACKAGE} {version} is not in the package index: the newest are {newest}")
        return file

    def download(self, file: _File) -> bytes:
        """Return the content of `file`, checked against its SHA-256."""
        content, _ = self._get(file.url)
        if hashlib.sha256(content).hexdigest() != file.hashes.get("sha256"):
            raise StoreError(f"{file.filename} arrived damaged (SHA-256 differs): try again")
        return content

    def _files(self) -> dict[str, _File]:
        """Return the source distributions by version."""
        if not self._sdists:
            self._settings = _pip_settings()
            body, url = self._get(f"{self._settings['index-url'].rstrip('/')}/{PACKAGE}/")
            for file in _decoded(body):
                with contextlib.suppress(InvalidSdistFilename):
                    version = str(parse_sdist_filename(file.filename)[1])
                    if file.filename.endswith(".tar.gz"):
                        self._sdists[version] = msgspec.structs.replace(file, url=urljoin(url, file.url))
        return self._sdists

    def _get(self, url: str, attempts: int = 3) -> tuple[bytes, str]:
        """Return the body and the final address of `url`; what may pass is tried again."""
        trust = ssl.create_default_context(cafile=self._settings.get("cert"))
        try:
            with urllib.request.urlopen(_request(url), timeout=_TIMEOUT_S, context=trust) as answer:  # noqa: S310
                return answer.read(), answer.url
        except OSError as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code < _SERVER_ERROR
            if final or attempts == 1:
                reason = getattr(error, "reason", error)  # without urllib's wrapping
                raise StoreError(f"pip's package index cannot be reached: {reason}") from error
        time.sleep(_PAUSE_S)
        return self._get(url, attempts - 1)


def _decoded(page: bytes) -> list[_File]:
    try:
        return msgspec.json.decode(page, type=_Page).files
    except msgspec.DecodeError as error:
        raise BadUseError(
            f"pip's package index does not list files and times of upload as JSON (PEP 700): {error}"
        ) from error


def _request(url: str) -> urllib.request.Request:
    """Return a request for `url`; a user and password in it become a header, as pip does it."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    headers = {"Accept": f"{_INDEX_JSON}, */*;q=0.1"}
    if at:
        headers["Authorization"] = "Basic " + base64.b64encode(unquote(user).encode()).decode()
    return urllib.request.Request(urlunsplit(parts._replace(netloc=host)), headers=headers)  # noqa: S310


def _pip_settings() -> dict[str, str]:
    """Return pip's settings, ``index-url`` always among them: from its configuration or its own default."""
    settings: dict[str, str] = {}
    for line in _pip("config", "list").splitlines():  # e.g. global.index-url='...', after :env:.index-url='...'
        name, _, value = line.partition("=")
        settings.setdefault(name.rpartition(".")[2], value.strip("'\""))
    if "index-url" not in settings:
        default = re.search(r"--index-url\b.*?default:?\s+(\S+?)\)", _pip("download", "--help"), re.DOTALL)
        if default is None:
            raise BadUseError("pip names no package index: set one with `pip config set global.index-url`")
        settings["index-url"] = default.group(1)
    return settings


def _pip(*arguments: str) -> str:
    # Wide, so that pip does not break an address into two lines.
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "1000"},
    )
    if done.returncode:
        raise BadUseError(f"pip is needed to find the package index: {done.stderr.strip()[-200:]}")
    return done.stdout


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


def _rebuild(directory: Path, present: dict[str, Release], missing: dict[str, _File], index: _Index) -> None:
    """Write the repository anew beside the old one, whose trees it takes over, and give it the name."""
    with tempfile.TemporaryDirectory(dir=directory.absolute().parent, prefix=f".{directory.name}.") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        _initialize(new)
        if present:
            _git(new, "fetch", "--quiet", "--no-tags", str(directory.absolute()), "main")
        releases = dict(present)
        for version, file in missing.items():
            _log.info(f"fetching {file.filename}")
            releases[version] = _unpacked(new, version, file, index.download(file))
        _commit_all(new, sorted(releases.values(), key=lambda release: Version(release.version)))
        if directory.exists():
            directory.rename(old)
        new.rename(directory)


def _initialize(repository: Path) -> None:
    _git(None, "init", "--quiet", "--template=", "--initial-branch=main", str(repository))
    for name, value in {"core.autocrlf": "false", "gc.auto": "0", _OURS: PACKAGE}.items():
        _git(repository, "config", name, value)


def _unpacked(repository: Path, version: str, file: _File, archive: bytes) -> Release:
    """Store the files of a source distribution as a tree."""
    with tempfile.TemporaryDirectory(dir=repository.parent) as directory:
        try:
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                tar.extractall(directory, filter="data")
        except tarfile.TarError as error:
            raise StoreError(f"{file.filename} cannot be unpacked: {error}") from error
        (top,) = Path(directory).iterdir()
        _git(repository, "read-tree", "--empty")
        _git(repository, "--work-tree", str(top), "add", "--all", "--force", ".")
        tree = _git(repository, "write-tree")
    return Release(version=version, tree=tree, date=int(file.uploaded.timestamp()))


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
    """Return what git prints; the user's configuration, which could sign, convert or hook, has no say."""
    where = ["-C", str(repository)] if repository else []
    name, email = _IDENTITY
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    fixed = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
    }
    try:
        done = subprocess.run(
            ["git", *where, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**inherited, **fixed, **variables},
        )
    except FileNotFoundError as error:
        raise BadUseError("git is not installed") from error
    if done.returncode:
        raise BadUseError(f"git {arguments[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()
