"""What is missing on this machine, for what it is needed, and what cures it."""

import importlib
import importlib.metadata
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from harness.datasets import presets
from harness.doctor.checks import SERIOUS, Check, carried_out
from harness.doctor.checks import judged as _check
from harness.doctor.target import TargetChecks
from harness.machine import rust
from harness.paths import ROOT, in_repository, state_dir
from harness.store import state, veth
from harness.targets.target import EMBEDDED

_GIB = 2**30
_PRESET = "demo"
_LEAST_ARRAY = _GIB // 4  # of `demo`: where this does not fit, nothing does
_BUILDS = 4 * _GIB  # Rust's target directory and asv's environments
_RAM_SHARE = 4  # whole_array refuses above a quarter of the memory
_OLDEST_PYTHON = (3, 12)
_RUST_VERSION = re.compile(r'^rust-version = "(\d+)\.(\d+)', re.MULTILINE)
_FILES = 1024
_BUSY = 0.25  # of all cores, before a benchmark starts
_STEADY_CLOCKS = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "xen"}
_CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_CPUS = Path("/sys/devices/system/cpu")
_STEADY_GOVERNOR = "performance"


def examine(target: str | None = None, preset: str = _PRESET) -> list[Check]:
    """Return every check, in the order in which a person would mend things; never raises.

    Parameters
    ----------
    target
        The place to be read from, as ``--target`` takes it. Only a cloud's target has anything sent: to its store, and
        to the metadata service of the VM that this may be.
    preset
        The data sets that memory and disk have to suffice for.
    """
    size = partial(_Size.of, preset)
    checks = _CHECKS if in_repository() else (_repository, *_CHECKS)
    machine: list[Callable[[], Check]] = [*checks, partial(_memory, size), partial(_disk, size, target), *_CONDITIONS]
    return [carried_out(check) for check in [*machine, *TargetChecks(target).all()]]


def can_bench(checks: list[Check]) -> bool:
    """Whether nothing that ``make bench`` needs is missing or wrong."""
    return all(check.verdict not in SERIOUS for check in checks)


@dataclass(frozen=True)
class _Size:
    """What a preset takes."""

    preset: str
    array: int
    """Decoded bytes of its largest array."""
    objects: int
    """Decoded bytes of all its arrays, which is more than the objects have."""

    @staticmethod
    def of(preset: str) -> "_Size":
        sizes = [spec.nbytes for spec in presets.specs(preset)]
        return _Size(preset, max(sizes), sum(sizes))


def _repository() -> Check:
    return _check(
        "repository",
        in_repository(),
        "missing",
        found="only the installed package",
        needed_for="make bench, asv, Rust programs",
        cure="clone zarr-cloud-bench, then run `make bench` there",
    )


def _python() -> Check:
    return _check(
        "Python",
        sys.version_info[:2] >= _OLDEST_PYTHON,
        "missing",
        found=".".join(map(str, sys.version_info[:3])),
        needed_for="everything",
        cure=f"install Python {_dotted(_OLDEST_PYTHON)} or later, then run `make` with it",
    )


def _rust() -> Check:
    cargo = rust.find_cargo()
    version = _version_of([Path(cargo).with_name("rustc"), "--version"]) if cargo else None
    oldest = _oldest_rust()
    return _check(
        "Rust",
        version is not None and version >= oldest,
        "missing",
        found=f"rustc {_dotted(version)}" if version else "no cargo and rustc found",
        needed_for="the store, zarrs readers",
        cure=f"install Rust {_dotted(oldest)} or later (rustup)",
    )


def _oldest_rust() -> tuple[int, ...]:
    """Return the oldest version that builds all of ours: the highest that a crate demands."""
    manifests = [path.read_text() for path in rust.WORKSPACE.glob("*/Cargo.toml")]
    demands = [(int(major), int(minor)) for text in manifests for major, minor in _RUST_VERSION.findall(text)]
    return max(demands, default=(1, 92))


def _git() -> Check:
    return _program("git", "asv: a commit per release")


def _make() -> Check:
    return _program("make", "make bench, test, check")


def _c_compiler() -> Check:
    found = next(filter(None, map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))), None)
    return _check(
        "C compiler",
        found is not None,
        "missing",
        found=Path(found).name if found else "none of cc, gcc, clang on PATH",
        needed_for="linking what Rust builds",
        cure="install the system's C compiler, e.g. the package gcc",
    )


def _asv() -> Check:
    pinned = (Requirement(text) for text in importlib.metadata.requires("zarr-cloud-bench") or ())
    wanted = next((str(one.specifier).removeprefix("==") for one in pinned if one.name == "asv"), "")
    try:
        importlib.import_module("asv")
        found = importlib.metadata.version("asv")
    except ImportError:
        found = "cannot be imported"
    return _check(
        "asv",
        found == wanted,
        "warn" if found[0].isdigit() else "missing",
        found=found,
        needed_for="running, publishing",
        cure=f"run `make` to install asv {wanted} into .venv, and use that",
    )


def _store_binary() -> Check:
    exists = rust.STORE.path.exists()
    return _check(
        "store, built",
        rust.STORE.is_built(),
        "warn",
        found="up to date" if rust.STORE.is_built() else "older than its sources" if exists else "not built yet",
        needed_for="the target `embedded`",
        cure="nothing: `zcb store start` builds it" if in_repository() else rust.STORE.absence(),
    )


def _store_running() -> Check:
    running = state.running()
    return _check(
        "store, running",
        running is not None,
        "warn",
        found=f"profile {running.profile.name}, {running.endpoint}" if running else "no",
        needed_for="the target `embedded`",
        cure="`zcb store start --profile s3` (make bench does it)",
    )


def _memory(size_of: Callable[[], _Size]) -> Check:
    size, memory = size_of(), psutil.virtual_memory()
    # Only `whole_array` needs room for the largest array; the other patterns do with little.
    least = min(size.array, _LEAST_ARRAY)
    return _check(
        "memory",
        _suffices(size.array),
        "warn" if _suffices(least) else "missing",
        found=f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free",
        needed_for=f"whole_array: {_RAM_SHARE} x {_amount(size.array)}",
        cure="close other programs, or measure on a machine with more memory; "
        "without it whole_array is n/a, the rest can be measured",
    )


def _suffices(array: int) -> bool:
    memory = psutil.virtual_memory()
    return memory.total >= _RAM_SHARE * array and memory.available >= 2 * array


def _amount(nbytes: int) -> str:
    return f"{nbytes / _GIB:.4g} GiB" if nbytes >= _GIB else f"{nbytes / 2**20:.4g} MiB"


def _disk(size_of: Callable[[], _Size], target: str | None) -> Check:
    size, where = size_of(), state_dir()
    while not where.exists():
        where = where.absolute().parent
    free = shutil.disk_usage(where).free
    here = (target or EMBEDDED).partition(":")[0] == EMBEDDED
    objects = size.objects if here else 0
    return _check(
        "disk",
        free >= objects + _BUILDS,
        "missing" if free < max(objects, _GIB) else "warn",
        found=f"{free / _GIB:.1f} GiB free",
        needed_for=f"{_amount(objects + _BUILDS)}: {'objects, ' if here else ''}builds",
        cure="free some space, or set ZCB_STATE_DIR to another disk",
    )


def _open_files() -> Check:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _check(
        "open files",
        limit >= _FILES or limit == resource.RLIM_INFINITY,
        "warn",
        found="no limit" if limit == resource.RLIM_INFINITY else f"at most {limit}",
        needed_for="100 requests in flight",
        cure=f"`ulimit -n {_FILES}` in this shell",
    )


def _virtual_network() -> Check:
    obstacle = veth.obstacle()
    return _check(
        "virtual network",
        obstacle is None,
        "warn",
        found="allowed" if obstacle is None else obstacle,
        needed_for="raw network rates",
        cure="see docs/network.md: root or `zcb netns`, iproute2, ethtool; without it they are n/a",
    )


def _cores() -> Check:
    # The cores this process may use, not the machine's: containers and taskset restrict them.
    count = len(os.sched_getaffinity(0))
    return _check(
        "cores",
        count > 1,
        "warn",
        found=str(count),
        needed_for="store beside reader",
        cure="expect CPU-bound rows: with one core the store slows the reader down",
    )


def _other_load() -> Check:
    load = os.getloadavg()[0]
    count = os.cpu_count() or 1
    return _check(
        "other load",
        load <= _BUSY * count,
        "warn",
        found=f"{load:.1f} of {count} cores",
        needed_for="figures with little noise",
        cure="wait for other work to end before measuring",
    )


def _governor() -> Check:
    governors = {path.read_text().strip() for path in _CPUS.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return _check(
        "CPU governor",
        governors <= {_STEADY_GOVERNOR},
        "warn",
        found=", ".join(sorted(governors)) or "none: the host sets the clock rate",
        needed_for="figures with little noise",
        cure="`cpupower frequency-set -g performance` as root",
    )


def _clock() -> Check:
    source = _CLOCK.read_text().strip()
    return _check(
        "clock",
        source in _STEADY_CLOCKS,
        "warn",
        found=source,
        needed_for="timelines: cheap stamps",
        cure="timelines cost more here: prefer a machine whose clock source is tsc",
    )


def _program(name: str, needed_for: str) -> Check:
    path = shutil.which(name)
    version = _version_of([path, "--version"]) if path else None
    return _check(
        name,
        path is not None,
        "missing",
        found=_dotted(version) if version else "found" if path else "not on PATH",
        needed_for=needed_for,
        cure=f"install the system's package {name}",
    )


def _version_of(command: list[str | Path]) -> tuple[int, ...] | None:
    """Return the first version number a program prints, or None."""
    # From the repository, since rustup and pyenv choose by directory.
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=30)
    match = re.search(r"\d+(\.\d+)+", done.stdout)
    return tuple(map(int, match.group().split("."))) if match else None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


_CHECKS = (
    _python,
    _asv,
    _git,
    _make,
    _c_compiler,
    _rust,
    _store_binary,
    _store_running,
)
_CONDITIONS = (
    _open_files,
    _virtual_network,
    _cores,
    _governor,
    _other_load,
    _clock,
)
