"""What an environment of asv holds, against what it has to hold: the commit's build, and the matrix' versions.

asv trusts a note of its own: whatever changes an environment beside it, as a second asv or a person's pip, is measured
under the commit's name.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from asv.util import UserError
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from harness.asv.configurations import understood

_PIP = "pip+"
_ORIGIN = "direct_url.json"

_held: dict[str, IO[str]] = {}
"""The locks that this process has, or the one that it was forked from, by the folder of the environments."""


def hold(environments: str) -> None:
    """Take the right to change and to measure the environments in a folder, until this process ends.

    Raises
    ------
    asv.util.UserError
        Another asv has it.
    """
    if environments in _held:
        return
    path = Path(f"{environments}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        other = file.read().strip() or "unknown"
        file.close()
        raise UserError(
            f"another asv (process {other}) uses the environments in {environments}: each would measure what the other "
            "installs, so wait until it has ended"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    _held[environments] = file


def trouble(environment: Any) -> str | None:
    """Return in a line what an environment holds that it should not, or lacks; None where nothing is wrong.

    Parameters
    ----------
    environment
        Of asv; one that asv did not make holds whatever it holds.
    """
    if is_existing(environment):
        return None
    found = _distributions(environment)
    wrong = [*_wrong_versions(environment, found), *_wrong_build(environment, found.get("zarr"))]
    if not wrong:
        return None
    return f"the environment in {environment._path} is not what is measured: {'; '.join(wrong)}; remove that folder"


def versions(environment: Any) -> dict[str, str]:
    """Return the versions that an environment holds, by name; none where asv did not make it."""
    if is_existing(environment):
        return {}
    return {name: one.version for name, one in sorted(_distributions(environment).items())}


def is_existing(environment: Any) -> bool:
    """Whether asv took the environment as it found it."""
    return bool(environment.tool_name == "existing")


def _distributions(environment: Any) -> dict[str, Distribution]:
    folders = map(str, Path(environment._path).glob("lib/python*/site-packages"))
    return {canonicalize_name(one.name): one for one in distributions(path=list(folders)) if one.name}


def _wrong_versions(environment: Any, found: Mapping[str, Distribution]) -> Iterable[str]:
    for name, pin in environment._requirements.items():
        package = name.removeprefix(_PIP)
        one = found.get(canonicalize_name(package))
        if one is None or (pin and understood(one.version) != pin):
            held = f"no {package}" if one is None else f"{package} {one.version}"
            yield f"it holds {held}, where the configuration says {pin or 'any'}"


def _wrong_build(environment: Any, zarr: Distribution | None) -> Iterable[str]:
    """Yield what is wrong with the installed zarr, where asv builds it: pip notes the wheel that it came from.

    asv keeps each commit's wheel in a folder that is called after the commit.
    """
    commit = environment._global_env_vars.get("ASV_COMMIT")
    if not environment._build_command or not commit:
        return
    wheel = None if zarr is None else _origin(zarr)
    if zarr is None or wheel is None or wheel.parent.name != commit:
        held = "no zarr" if zarr is None else f"zarr {zarr.version} of {wheel or 'elsewhere'}"
        yield f"it holds {held}, not what asv built of {commit[:8]}"
    elif parse_wheel_filename(wheel.name)[1] != Version(zarr.version):
        yield f"it holds zarr {zarr.version}, and {wheel.name} was built of {commit[:8]}"


def _origin(one: Distribution) -> Path | None:
    """Return the file that a distribution was installed from; None where it was none."""
    noted = one.read_text(_ORIGIN)
    url = json.loads(noted)["url"] if noted else ""
    return Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
