"""Source distributions of a package, from the index that pip is configured to use.

They are fetched directly: ``pip download`` would build the metadata of each in an environment of its own first.
"""

import contextlib
import dataclasses
import functools
import logging
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, override
from urllib.parse import urlsplit, urlunsplit

import pypi_simple
import requests
import urllib3
from packaging.utils import InvalidSdistFilename, parse_sdist_filename
from packaging.version import Version
from pypi_simple import DistributionPackage, PyPISimple
from requests.adapters import HTTPAdapter

from harness.errors import BadUseError, StoreError
from harness.machine.redact import redacted

_log = logging.getLogger(__name__)

_SECTIONS = ("global", "download", ":env:")  # of pip's configuration; a later one counts more
_TIMEOUT_S = 60.0
_PAUSE_S = 0.5  # doubled before each further attempt


class PackageIndex:
    """A package in pip's index; asked at most once, and not before it is needed.

    All methods raise a `StoreError` where the index cannot be reached, and a `BadUseError` where it is of no use.
    """

    def __init__(self, package: str) -> None:
        self._package = package

    def latest(self) -> str:
        """Return the newest final release that was not withdrawn."""
        kept = [version for version, sdist in self._sdists.items() if not sdist.is_yanked]
        final = [version for version in kept if not Version(version).is_prerelease]
        if not final:
            raise BadUseError(f"pip's package index holds no release of {self._package}")
        return max(final, key=Version)

    def sdist(self, version: str) -> DistributionPackage:
        """Return where the source distribution of `version` is; its SHA-256 and `upload_time` are known.

        One that was yanked is returned with a warning: who names it may want to see what it did.
        """
        sdist = self._sdists.get(version)
        if sdist is None:
            raise BadUseError(f"{self._package} {version} does not exist: the newest is {self.latest()}")
        if sdist.upload_time is None or "sha256" not in sdist.digests:
            raise _unfit(f"it says less of {sdist.filename}")
        if sdist.is_yanked:
            _log.warning(f"{self._package} {version} was yanked: {sdist.yanked_reason or 'no reason is given'}")
        return sdist

    def download(self, sdist: DistributionPackage, folder: Path) -> Path:
        """Return the file, put into `folder` and checked against its SHA-256."""
        url = _with_credentials(sdist.url, self._client.endpoint)
        with _explained():
            self._client.download_package(
                dataclasses.replace(sdist, url=url), folder / sdist.filename, timeout=_TIMEOUT_S
            )
        return folder / sdist.filename

    @functools.cached_property
    def _client(self) -> PyPISimple:
        return _client(_pip_settings())

    @functools.cached_property
    def _sdists(self) -> dict[str, DistributionPackage]:
        """Source distributions by version."""
        found = {}
        with _explained():
            for file in self._client.get_project_page(self._package, timeout=_TIMEOUT_S).packages:
                with contextlib.suppress(InvalidSdistFilename):
                    if file.filename.endswith(".tar.gz"):
                        found[str(parse_sdist_filename(file.filename)[1])] = file
        return found


class _Route(HTTPAdapter):
    """Connections that trust what pip trusts, whatever requests' own variables say; what may pass is tried again."""

    def __init__(self, trust: str | bool) -> None:
        self._trust = trust
        again = urllib3.Retry(total=2, backoff_factor=_PAUSE_S, status_forcelist=range(500, 600))
        super().__init__(max_retries=again)

    @override
    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        return super().send(request, *args, **options | {"verify": self._trust})


def _client(settings: dict[str, str]) -> PyPISimple:
    session = requests.Session()
    system = ssl.get_default_verify_paths()
    session.mount("http://", _Route(trust=True))
    session.mount("https://", _Route(settings.get("cert") or system.cafile or system.capath or True))
    for host in settings.get("trusted-host", "").split():
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        session.mount(f"https://{host}/", _Route(trust=False))
        session.mount(f"https://{host}:", _Route(trust=False))
    session.cert = settings.get("client-cert")
    if "proxy" in settings:
        session.proxies = dict.fromkeys(("http", "https"), settings["proxy"])
    return PyPISimple(settings.get("index-url", pypi_simple.PYPI_SIMPLE_ENDPOINT), session=session)


def _pip_settings() -> dict[str, str]:
    """Return those of pip's settings that say where the index is and how it is reached."""
    keys = {line.partition("=")[0] for line in _pip("config", "list").splitlines()}
    counts = {key.rpartition(".")[2]: key for section in _SECTIONS for key in keys if key.startswith(f"{section}.")}
    needed = counts.keys() & {"index-url", "cert", "client-cert", "trusted-host", "proxy"}
    return {name: _pip("config", "get", counts[name]).strip() for name in needed}


def _pip(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadUseError(f"pip is needed to find the package index: {done.stderr.strip()[-200:]}")
    return done.stdout


def _with_credentials(url: str, index: str) -> str:
    """Return `url` with the user and password that the index's own address has, if it is on the same host."""
    parts, of_index = urlsplit(url), urlsplit(index).netloc
    return urlunsplit(parts._replace(netloc=of_index)) if parts.netloc == of_index.rpartition("@")[2] else url


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Make the libraries' errors ours, each one line."""
    try:
        yield
    except pypi_simple.DigestMismatchError as error:
        raise StoreError(f"{Path(error.url).name} arrived damaged (SHA-256 differs): try again") from error
    except (ValueError, pypi_simple.UnsupportedRepoVersionError) as error:
        raise _unfit(_line(error)) from error
    except (requests.RequestException, pypi_simple.NoSuchProjectError) as error:
        cause: BaseException = error
        while cause.__context__ is not None:  # urllib3 and requests wrap what the system said
            cause = cause.__context__
        raise StoreError(f"pip's package index cannot be reached: {_line(cause)}") from error


def _unfit(reason: str) -> BadUseError:
    return BadUseError(f"pip's package index does not list files and times of upload as JSON (PEP 700): {reason}")


def _line(error: BaseException) -> str:
    return redacted(" ".join(str(error).split())[:300])
