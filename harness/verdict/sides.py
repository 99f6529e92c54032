"""The two sides of a comparison: what a person names becomes an environment that differs in that one thing.

All sides share this environment's pinned packages, file by file: what differs lies in a folder of its own, first on
the path of the side's processes.
"""

import functools
import importlib.metadata
import os
import re
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from harness.errors import BadUseError, MeasurementError
from harness.machine.environment import sealed
from harness.machine.log import last_line
from harness.paths import ROOT
from harness.readers.base import PYTHON_VARIABLE, python_of
from harness.readers.zarr_python import BOUND

_RELEASE = re.compile(r"\d+(\.\d+)+((a|b|rc)\d+)?(\.(post|dev)\d+)?")
_INTERPRETER_NAME = re.compile(r"^(c?python|py)(==)?", re.IGNORECASE)
_INTERPRETER = re.compile(rf"{_INTERPRETER_NAME.pattern}\d+(\.\d+)+t?", re.IGNORECASE)
_SETTING = re.compile(r"[a-z][a-z0-9_.]*")
ZARR = "zarr"
AS_IT_IS = "="
"""This environment, as it is."""
YANKED_FILE = "yanked.txt"
"""In an overlay: why the package index no longer offers that release."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side as its processes see it."""

    label: str
    """What the person asked for, e.g. ``79d5b8fde^``."""
    detail: str
    """What it turned out to be, e.g. ``zarr 3.2.2.dev45+g7531de5a``."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of its worker processes."""
    overlay: Path | None = None
    """Folder with the packages that differ, on the path of its processes."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Installed packages that belong to its figures."""
    bounded: bool = True
    """Whether its zarr has the setting that bounds requests in flight."""


def is_release(text: str) -> bool:
    """Whether `text` is a version number, such as ``3.2.1``."""
    return _RELEASE.fullmatch(text) is not None


def requirement(spec: str) -> str | None:
    """Return the exact requirement that `spec` names, or None where it names source code.

    ``3.2.1`` is that release of zarr, ``obstore==0.11.0`` that version of another package, and a wheel is what its
    name says.

    Raises
    ------
    BadUseError
        A requirement that does not name one version, the name of no wheel, or an interpreter.
    """
    if is_wheel(spec):
        try:
            name, version, *_ = parse_wheel_filename(Path(spec).name)
        except InvalidWheelFilename as error:
            raise BadUseError(str(error)) from error
        return f"{name}=={version}"
    if _INTERPRETER.fullmatch(spec):
        raise BadUseError(f"{spec}: write python:{_INTERPRETER_NAME.sub('', spec)}")
    if is_release(spec):
        return f"{ZARR}=={spec}"
    if "=" not in spec:
        return None
    try:
        parsed = Requirement(spec)
    except InvalidRequirement as error:
        raise BadUseError(f"{spec!r} is not of the form package==version") from error
    exact = [one for one in parsed.specifier if one.operator == "==" and "*" not in one.version]
    if len(exact) != 1 or len(parsed.specifier) != 1 or parsed.extras or parsed.marker or parsed.url:
        raise BadUseError(f"{spec!r} does not name one version: write package==version")
    return f"{parsed.name}=={exact[0].version}"


def is_wheel(spec: str) -> bool:
    """Whether `spec` names a wheel, by its ending."""
    return spec.endswith(".whl")


def is_zarr(spec: str) -> bool:
    """Whether `spec`, which is not ``=``, names a zarr rather than another package's version."""
    exact = requirement(spec)
    return exact is None or exact.startswith(f"{ZARR}==")


def required_by(package: str) -> list[str]:
    """Return what an installed package requires here, without its extras; nothing of one that is not installed."""
    try:
        parsed = map(Requirement, importlib.metadata.requires(package) or ())
    except importlib.metadata.PackageNotFoundError:
        return []
    return [one.name for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]


@functools.cache
def with_required(packages: tuple[str, ...]) -> frozenset[str]:
    """Return packages with all that they require: what a process that imports them may load."""
    found: set[str] = set()
    left = [*packages]
    while left:
        name = canonicalize_name(left.pop())
        if name not in found:
            found.add(name)
            left += required_by(name)
    return frozenset(found)


def settings(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that configure zarr, from dotted names to values.

    Raises
    ------
    BadUseError
        A name that zarr's configuration cannot have.
    """
    for name in given:
        if not _SETTING.fullmatch(name):
            raise BadUseError(f"{name!r} is not the name of a setting of zarr, such as async.concurrency")
    return {f"ZARR_{name.upper().replace('.', '__')}": value for name, value in given.items()}


def parse_setting(text: str) -> tuple[str, str]:
    """Split ``name=value``; a BadUseError says when it is something else."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise BadUseError(f"{text!r} is not of the form name=value")
    return name, value


def make(
    label: str,
    overlay: Path | None,
    configured: Mapping[str, str],
    compared: Collection[str] = frozenset(),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Side:
    """Return a side and prove that its processes import what it is named after.

    Parameters
    ----------
    label
        What the person asked for.
    overlay
        Folder with the packages that differ; None is this environment as it is.
    configured
        Settings of zarr, dotted name -> value.
    compared
        Packages whose versions are told besides those of the folder: the other side's.
    variables
        Of its processes besides; `PYTHON_VARIABLE` among them names a Python with packages of its own.

    Raises
    ------
    BadUseError
        A setting that this zarr does not know, or packages that do not fit together.
    MeasurementError
        zarr cannot be imported there.
    """
    path = os.pathsep.join(filter(None, (str(overlay or ""), str(ROOT))))
    environment = {"PYTHONPATH": path, "PYTHONNOUSERSITE": "1", **variables}
    if overlay is not None:
        _demand_fit(label, environment)
    facts = _inspect(label, environment, [*configured, BOUND])
    missing = [name for name in facts.unknown if name in configured]
    if missing:
        raise BadUseError(f"zarr {facts.versions[ZARR]} has no setting {missing[0]!r}")
    chosen = "".join(f", {name}={value}" for name, value in configured.items())
    interpreter = f"Python {facts.python}, " if PYTHON_VARIABLE in variables else ""
    return Side(
        label=label + chosen,
        detail=interpreter + _detail(facts.versions, overlay, compared) + chosen,
        environment=environment | settings(configured),
        overlay=overlay,
        versions=facts.versions,
        bounded=BOUND not in facts.unknown,
    )


def yanked(overlay: Path) -> str | None:
    """Return why the release in an overlay was yanked from the package index; None where it was not."""
    note = overlay / YANKED_FILE
    return note.read_text() if note.is_file() else None


class _Facts(msgspec.Struct, frozen=True):
    python: str
    """Its version, with a ``t`` behind it where it was built without a global lock."""
    versions: dict[str, str]
    unknown: list[str]


_INSPECT = """
import json, platform, sys, sysconfig
from importlib.metadata import distributions
import zarr
def known(name):
    try:
        zarr.config.get(name)
        return True
    except KeyError:
        return False
versions = {}
for dist in distributions():
    versions.setdefault(dist.name.lower(), dist.version)
versions["zarr"] = zarr.__version__
python = platform.python_version() + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else "")
unknown = [name for name in sys.argv[1:] if not known(name)]
print(json.dumps({"python": python, "versions": versions, "unknown": unknown}))
"""


def _inspect(label: str, environment: Mapping[str, str], names: list[str]) -> _Facts:
    done = _python(environment, "-c", _INSPECT, *names)
    if done.returncode:
        raise MeasurementError(f"{label}: zarr cannot be imported: {last_line(done.stderr)}")
    return msgspec.json.decode(done.stdout, type=_Facts)


def _demand_fit(label: str, environment: Mapping[str, str]) -> None:
    done = _python(environment, "-m", "pip", "check")
    if done.returncode:
        raise BadUseError(
            f"{label} does not fit the pinned packages: {last_line(done.stdout).rstrip('.')} "
            "(what is pinned is in requirements.lock: name it in pyproject.toml and run `make lock`)"
        )


def _python(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [python_of(environment), *arguments]
    return subprocess.run(command, env={**sealed(), **environment}, capture_output=True, text=True, check=False)


def _detail(versions: Mapping[str, str], overlay: Path | None, compared: Collection[str]) -> str:
    shown = {ZARR, *(_names_in(overlay) if overlay else ()), *compared} & versions.keys()
    named = ", ".join(f"{name} {versions[name]}" for name in sorted(shown, key=lambda n: (n != ZARR, n)))
    return f"{named} (yanked)" if overlay and yanked(overlay) is not None else named


def _names_in(overlay: Path) -> list[str]:
    return [path.name.partition("-")[0].lower().replace("_", "-") for path in overlay.glob("*.dist-info")]
