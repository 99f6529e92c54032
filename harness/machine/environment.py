"""What a process that measures may see of the environment it was started in.

Libraries take settings from variables and from files in folders of the user's: another codec pipeline, another address,
a proxy, a debug mode. None of them is part of a result, so none may be part of a measurement. A process that measures
has only the variables of a list, and a home folder that holds nothing but the user's credentials. What each library
would have read stands in docs/reliability.md.
"""

import contextlib
import hashlib
import logging
import os
import site
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from harness.errors import BadUseError
from harness.paths import ROOT, state_dir

_log = logging.getLogger(__name__)

_OURS = ("ZCB_*", "ASV_*")
_MACHINE = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
_TLS_ROOTS = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "AWS_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "TENSORSTORE_CA_BUNDLE",
    "TENSORSTORE_CA_PATH",
    "CURL_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
)
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_*",
    "AWS_EC2_METADATA_*",
    "AWS_METADATA_*",
    "AWS_IMDS*",
    "AWS_REGION",  # where roles are asked for; the data's region is the target's, which every library is told
    "AWS_DEFAULT_REGION",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT*",
    "SERVICE_ACCOUNT",
    "GCE_METADATA_*",
    "CLOUDSDK_CONFIG",
    "AZURE_STORAGE_ACCOUNT_NAME",  # which a target that names none takes over
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_MASTER_KEY",
    "AZURE_STORAGE_SAS_*",
    "AZURE_STORAGE_TOKEN",
    "AZURE_*CLIENT_ID",
    "AZURE_*CLIENT_SECRET",
    "AZURE_*TENANT_ID",
    "AZURE_*AUTHORITY_ID",
    "AZURE_AUTHORITY_HOST",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_USE_AZURE_CLI",
    "AZURE_CONFIG_DIR",
    "AZURE_MSI_*",
    "AZURE_IDENTITY_*",
    "AZURE_OBJECT_ID",
    "IDENTITY_*",
    "MSI_*",
)
_LET_IN = (*_OURS, *_MACHINE, *_TLS_ROOTS, *_CREDENTIALS)

_CREDENTIAL_FILES = (
    ".aws/config",
    ".aws/credentials",
    ".aws/sso",
    ".aws/login",
    ".aws/cli",
    ".config/gcloud",
    ".azure",
)
"""What the home folder of a process that measures has of the user's."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "no_proxy")
_ADDRESSES = (
    "AWS_ENDPOINT*",
    "GOOGLE_BASE_URL",
    "GOOGLE_STORAGE_BASE_URL",
    "TENSORSTORE_GCS_HTTP_URL",
    "AZURE_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT",
    "AZURITE_*",
    "AZURE_*USE_EMULATOR",
)
_EFFECTIVE = (
    *_ADDRESSES,
    "ZARR_*",
    "FSSPEC_*",
    "S3FS_*",
    "DASK_*",
    "NUMCODECS_*",
    "BLOSC_*",
    "TENSORSTORE_*",
    "AIOHTTP_*",
    "AWS_*",
    "BOTO*",
    "GOOGLE_*",
    "AZURE_*",
    "GRPC_*",
    "OMP_*",
    "OPENBLAS_*",
    "MKL_*",
    "NUMEXPR_*",
    "NUMPY_*",
    "NPY_*",
    "MALLOC_*",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "LD_AUDIT",
    "RAYON_*",
    "TOKIO_*",
    "RUST_LOG",
    "RUST_MIN_STACK",
    "PYTHONASYNCIODEBUG",
    "PYTHONDEBUG",
    "PYTHONDEVMODE",
    "PYTHONHASHSEED",
    "PYTHONHOME",
    "PYTHONMALLOC",
    "PYTHONMALLOCSTATS",
    "PYTHONOPTIMIZE",
    "PYTHONPATH",
    "PYTHONPERFSUPPORT",
    "PYTHONPROFILEIMPORTTIME",
    "PYTHONTRACEMALLOC",
    "PYTHONVERBOSE",
    "PYTHONWARNINGS",
    "PYTHON_CPU_COUNT",
    "PYTHON_FROZEN_MODULES",
    "PYTHON_GIL",
    "PYTHON_JIT",
    "PYTHON_PERF_JIT_SUPPORT",
    "PYTHON_TLBC",
)
"""What would have had an effect on what is measured, or might have: what is left out of it is told."""

_SET_BY_US = ("HOME", "LANG", "LC_*", "PYTHONPATH", "PYTHONUSERBASE", "ZARR_ROOT_CONFIG", *_OURS)
_KEPT = ("PYTHONPATH", "PYTHONHOME")
"""What programs that are started for something else than measuring may need."""

_set_aside: dict[str, str] = {}
"""What `strip` took out of this process's environment."""


def sealed() -> dict[str, str]:
    """Return the variables of a process that measures; its home folder is made where it is not there."""
    home = _credentials_only(_home())
    empty = str(home / "empty")
    made = {name: _expanded(value) for name, value in os.environ.items() if _is_let_in(name)}
    if site.ENABLE_USER_SITE:
        made["PYTHONUSERBASE"] = site.getuserbase()  # packages that were installed there, since its home is another
    return made | {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ZCB_STATE_DIR": str(state_dir().absolute()),
        "ZARR_ROOT_CONFIG": empty,
        "DASK_ROOT_CONFIG": empty,
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",  # ~/.aws/config has credentials, and may have addresses
    }


def let_in(asked: Iterable[str] = ()) -> list[str]:
    """Return the names of what came from outside into processes that measure: variables, and files with credentials.

    Parameters
    ----------
    asked
        Variables that a person asked for (`admit`).
    """
    files = [f"~/{name}" for name in _CREDENTIAL_FILES if (_home() / name).exists()]
    return sorted({*asked, *filter(_is_let_in, os.environ), *files})


def left_out(asked: Iterable[str] = ()) -> list[str]:
    """Return the names of the variables that could have had an effect and are kept out of what measures."""
    given = {**_set_aside, **os.environ}
    as_set_by_us = {"PYTHONPATH"} if given.get("PYTHONPATH") == str(ROOT) else set()
    return sorted({name for name in given if _has_effect(name)} - as_set_by_us - set(asked))


def admit(asked: Sequence[str] = ()) -> dict[str, str]:
    """Return the variables that a person wants to measure with, log in one line what is kept out, and `strip`.

    A command that reads from a target calls it once, before anything else.

    Parameters
    ----------
    asked
        Names of variables for all workers alike.

    Raises
    ------
    BadUseError
        A variable that is not set, that the target decides, or that libraries do not treat alike; or this environment
        of Python has settings of zarr in itself, which no variable can keep out.
    """
    for prefix in {sys.prefix, *site.PREFIXES}:
        folder = Path(prefix, "etc", "zarr")
        if folder.exists():
            raise BadUseError(
                f"{folder} holds settings of zarr, which would be measured with: move it away (settings to compare "
                "are named by `zcb compare --base-config` and `--head-config`)"
            )
    given = {**_set_aside, **os.environ}
    for name in asked:
        _demand_admissible(name, given)
    names = left_out(asked)
    if names:
        _log.warning(f"left out of what is measured, as part of no result: {', '.join(names)} (docs/reliability.md)")
    strip()
    return {name: given[name] for name in asked}


def _demand_admissible(name: str, given: Mapping[str, str]) -> None:
    if _is_proxy(name):
        raise BadUseError(f"--env {name}: nothing is measured through a proxy, which libraries do not treat alike")
    if _matches(name, _ADDRESSES):
        raise BadUseError(f"--env {name}: where to read from is the target's endpoint (docs/targets.md)")
    if _matches(name, _SET_BY_US):
        raise BadUseError(f"--env {name}: that one is set for every process that measures")
    if name not in given:
        raise BadUseError(f"--env {name}: it is not set (`{name}=... zcb ... --env {name}`)")


def strip() -> None:
    """Take what libraries would heed out of this process's environment, and so out of all programs that it starts.

    Proxies stay, which pip, git and cargo need: `direct` keeps them from the object store.
    """
    for name in [name for name in os.environ if _has_effect(name) and not (_is_proxy(name) or name in _KEPT)]:
        _set_aside[name] = os.environ.pop(name)


def seal_here() -> None:
    """Give this process, which measures itself, the environment that it is to have."""
    made = sealed()
    os.environ.clear()
    os.environ.update(made)


@contextlib.contextmanager
def direct() -> Iterator[None]:
    """Let a client that is made inside the block see no proxy."""
    taken = {name: os.environ.pop(name) for name in list(os.environ) if _is_proxy(name)}
    try:
        yield
    finally:
        os.environ.update(taken)


def _is_let_in(name: str) -> bool:
    return _matches(name, _LET_IN)


def _is_proxy(name: str) -> bool:
    return name.lower() in _PROXIES


def _has_effect(name: str) -> bool:
    return _is_proxy(name) or (_matches(name, _EFFECTIVE) and not _is_let_in(name))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _expanded(value: str) -> str:
    """Return a path below the user's home as it is called from elsewhere."""
    return os.path.expanduser(value) if value.startswith("~/") else value  # noqa: PTH111 - whatever else it is, it stays


def _home() -> Path:
    return Path(os.path.expanduser("~"))  # noqa: PTH111 - a user without one is no error here


def _credentials_only(home: Path) -> Path:
    """Return a home folder that leads to the credentials in `home` and to nothing else there."""
    homes = state_dir().absolute() / "homes"
    if home.parent == homes:  # this process has one already
        return home
    made = homes / hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    (made / "empty").mkdir(parents=True, exist_ok=True)
    for name in _CREDENTIAL_FILES:
        if (home / name).exists():
            link = made / name
            link.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # made earlier
                link.symlink_to(home / name)
    return made
