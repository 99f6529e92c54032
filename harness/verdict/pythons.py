"""Sides that differ in the Python that runs them: everything else of them is this environment's lock, installed anew.

``python:3.14`` is what the path knows as ``python3.14``, ``python:3.14t`` its build without a global lock (with
``+nogil`` behind it the lock stays off, whichever library asks for it), ``python:PATH`` a program, and ``=`` the Python
that this environment was made with. Both sides are virtual environments made in the same way, once, and kept.
"""

import hashlib
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.errors import BadUseError, MeasurementError
from harness.machine.log import last_line
from harness.machine.programs import called
from harness.paths import repository_file
from harness.readers.base import PYTHON_VARIABLE
from harness.verdict import builds, sides
from harness.verdict.sides import AS_IT_IS, Side

_log = logging.getLogger(__name__)

PREFIX = "python:"
NO_LOCK = "+nogil"
"""Behind the name of a Python: its processes have no global lock, whichever library asks for it."""

_VERSION = re.compile(r"\d+\.\d+t?")
_OLDEST = (3, 12)
_ASK = (
    "import sys, sysconfig; print(*sys.version_info[:2], sysconfig.get_config_var('Py_GIL_DISABLED') or 0, sys.version)"
)
_NO_WHEEL = re.compile(r"No matching distribution found for ([\w.-]+)==")
_CHECKSUMS = "google-crc32c"
_CHECKSUMS_IN_C = "import google_crc32c, sys; sys.exit(google_crc32c.implementation != 'c')"


def is_python(spec: str) -> bool:
    """Whether `spec` names a Python rather than packages."""
    return spec.startswith(PREFIX)


def demand(spec: str) -> None:
    """Refuse what `make` would find no Python of, before anything is installed."""
    _told(spec, _program(spec))


def make(spec: str, configured: Mapping[str, str]) -> Side:
    """Return the side whose readers run in the Python that `spec` names.

    A package of the lock without a wheel for that Python is built from its sources where zarr needs it, else left out:
    a reader that needs it fails there, and says so.

    Raises
    ------
    BadUseError
        No such program, an older one than our code is written for, or a setting that zarr does not know.
    MeasurementError
        The packages cannot be installed.
    """
    lock = repository_file("requirements.lock", instead="compare Pythons from a checkout of it").read_text()
    program = _program(spec)
    told = _told(spec, program)
    digest = hashlib.sha256("\n".join([str(program), told, lock]).encode()).hexdigest()[:12]

    def build(folder: Path) -> None:
        _log.info(f"installing the locked packages for {program.name} (kept for the next time) ...")
        _install(program, folder, lock)

    python = builds.cached_folder(f"python-{digest}", build) / "bin" / "python"
    lock_off = {"PYTHON_GIL": "0"} if spec.endswith(NO_LOCK) else {}
    return sides.make(spec, None, configured, variables={PYTHON_VARIABLE: str(python), **lock_off})


def _program(spec: str) -> Path:
    """Return the Python that a virtual environment is to be made with."""
    if spec == AS_IT_IS:
        return Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}")
    if not is_python(spec):
        raise BadUseError(f"{spec} is no Python: compare Pythons with each other, or with {AS_IT_IS}")
    named = spec.removeprefix(PREFIX).removesuffix(NO_LOCK)
    found = shutil.which(f"python{named}" if _VERSION.fullmatch(named) else named)
    if found is None:
        raise BadUseError(f"there is no program {named!r}" if "/" in named else f"no python{named} is on the path")
    return Path(found).resolve()


def _told(spec: str, program: Path) -> str:
    """Return what a Python says of itself."""
    try:
        done = subprocess.run([program, "-c", _ASK], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadUseError(f"{spec} is no Python: {error}") from error
    version = re.match(r"(\d+) (\d+) ([01]) ", done.stdout)
    if version is None:
        raise BadUseError(f"{spec} is no Python: {last_line(done.stderr)}")
    major, minor, without_lock = map(int, version.groups())
    if (major, minor) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise BadUseError(f"{spec} is Python {major}.{minor}: readers run in {oldest} or newer")
    if spec.endswith(NO_LOCK) and not without_lock:
        raise BadUseError(f"{spec}: that Python was not built without a global lock, as 3.14t is")
    return done.stdout


def _install(program: Path, folder: Path, lock: str) -> None:
    _run([program, "-m", "venv", folder])
    entries = _entries(lock)
    needed = [name for name in sides.required_by(sides.ZARR) if name in entries]
    without = _wheels(folder, entries)
    for name in needed:
        if name in without:
            _log.info(f"{name} has no wheel for it, and is built from its sources ...")
            _run(_pip(folder, {name: entries[name]}, "--no-binary", name))
    if left := sorted(without - set(needed)):
        _log.info(f"without a wheel for it, and left out: {', '.join(left)}")
    python = folder / "bin" / "python"
    if subprocess.run([python, "-W", "ignore", "-c", _CHECKSUMS_IN_C], capture_output=True, check=False).returncode:
        raise MeasurementError(
            f"{_CHECKSUMS} has no wheel for {program.name}, and was built without its C library: checksums would take "
            "Python's time. Name the folder in which that library is installed in CRC32C_INSTALL_PREFIX"
        )


def _entries(lock: str) -> dict[str, str]:
    """Return the entry of each package in a lock, with its hashes."""
    found = re.findall(r"^([\w.-]+)(==.*\n(?:[ \t]+.*\n)*)", lock, re.MULTILINE)
    return {name: name + rest for name, rest in found}


def _wheels(folder: Path, entries: Mapping[str, str]) -> set[str]:
    """Install all packages that have a wheel, and return the names of the others."""
    without: set[str] = set()
    while True:
        wanted = {name: entry for name, entry in entries.items() if name not in without}
        done = called(_pip(folder, wanted, "--only-binary", ":all:"))
        if not done.returncode:
            return without
        missing = _NO_WHEEL.search(done.stderr)
        if missing is None or missing[1] not in wanted:
            raise MeasurementError(f"the locked packages cannot be installed: {builds.pips_reason(done.stderr)}")
        without.add(missing[1])


def _pip(folder: Path, wanted: Mapping[str, str], *options: str) -> list[str | Path]:
    chosen = folder / "wanted.lock"
    chosen.write_text("".join(wanted.values()))
    start: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps"]
    return [*start, "--require-hashes", *options, "--requirement", chosen]


def _run(command: Iterable[str | Path]) -> None:
    done = called(command)
    if done.returncode:
        raise MeasurementError(f"the locked packages cannot be installed: {builds.pips_reason(done.stderr)}")
