"""What is missing on this machine, for what it is needed, and what cures it."""

import importlib
import importlib.metadata
import os
import re
import resource
import shutil
import subprocess
import sys
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from numcodecs.zstd import Zstd
from packaging.requirements import Requirement

from harness.datasets import presets
from harness.doctor.checks import SERIOUS, Check, Row, Seen, Verdict
from harness.doctor.target import TargetChecks
from harness.machine import rust
from harness.machine.cpu import allowed_cores, quota
from harness.machine.memory import is_given_to_host
from harness.paths import ROOT, in_repository, state_dir
from harness.results.text import cores_in_words
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
_CONTEXT_SECONDS = 5e-6  # a fifth of what 32 KiB take to decode with a context that is there (docs/timelines.md)
_CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_CPUS = Path("/sys/devices/system/cpu")
_STEADY_GOVERNOR = "performance"

# Cures that are too long for the table.
_PACKAGE = "install the system's package {}"
_C_COMPILER = "install the system's C compiler, e.g. the package gcc"
_MEMORY = (
    "close other programs, or measure on a machine with more memory; "
    "without it whole_array is n/a, the rest can be measured"
)
_NETWORK = "see docs/network.md: root or `zcb netns`; without it they are n/a"
_FEW_CORES = "expect CPU-bound rows: with one core the store slows the reader down; with a quota the kernel stops both"
_TO_HOST = (
    "expect arrays in new memory to take up to twice the time now and then (docs/results.md); "
    "prefer a host whose balloon has free page reporting off"
)
_DEAR_CONTEXTS = (
    "expect small chunks to take up to half again as long with libraries that make a context for each: "
    "docs/timelines.md, finding 6"
)
_SLOW_CLOCK = "timelines cost more here: prefer a machine whose clock source is tsc"
_STORE = "`zcb store start --profile s3` (make bench does it)"


_NO_REPOSITORY = Row(
    "repository",
    "make bench, asv, Rust programs",
    lambda: Seen(False, "only the installed package"),
    "clone zarr-cloud-bench, then run `make bench` there",
    "missing",
)


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
    rows = [*_table(partial(_Size.of, preset), target), *TargetChecks(target).rows()]
    return [row.check() for row in (rows if in_repository() else [_NO_REPOSITORY, *rows])]


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


def _table(size_of: Callable[[], _Size], target: str | None) -> tuple[Row, ...]:
    """Return what is looked at on this machine: name, needed for what, how to look, cure where it is not good."""
    memory, disk = partial(_memory, size_of), partial(_disk, size_of, target)
    return (
        Row("Python", "everything", _python, "install Python {oldest} or later, then run `make` with it", "missing"),
        Row("asv", "running, publishing", _asv, "run `make` to install asv {wanted} into .venv, and use that"),
        Row("git", "asv: a commit per release", partial(_program, "git"), _PACKAGE.format("git"), "missing"),
        Row("make", "make bench, test, check", partial(_program, "make"), _PACKAGE.format("make"), "missing"),
        Row("C compiler", "linking what Rust builds", _c_compiler, _C_COMPILER, "missing"),
        Row("Rust", "the store, zarrs readers", _rust, "install Rust {oldest} or later (rustup)", "missing"),
        Row("store, built", "the target `embedded`", _store_binary, "{cure}"),
        Row("store, running", "the target `embedded`", _store_running, _STORE),
        Row("memory", f"whole_array: {_RAM_SHARE} x {{array}}", memory, _MEMORY),
        Row("disk", "{needed}: {what}", disk, "free some space, or set ZCB_STATE_DIR to another disk"),
        Row("open files", "100 requests in flight", _open_files, f"`ulimit -n {_FILES}` in this shell"),
        Row("virtual network", "raw network rates", _virtual_network, _NETWORK),
        Row("cores", "store beside reader", _cores, _FEW_CORES),
        Row("CPU governor", "figures with little noise", _governor, "`cpupower frequency-set -g performance` as root"),
        Row("other load", "figures with little noise", _other_load, "wait for other work to end before measuring"),
        Row("free pages", "figures with little noise", _free_pages, _TO_HOST),
        Row("zstd contexts", "decoding small chunks", _zstd_contexts, _DEAR_CONTEXTS),
        Row("clock", "timelines: cheap stamps", _clock, _SLOW_CLOCK),
    )


def _python() -> Seen:
    words = {"oldest": _dotted(_OLDEST_PYTHON)}
    return Seen(sys.version_info[:2] >= _OLDEST_PYTHON, _dotted(sys.version_info[:3]), words=words)


def _asv() -> Seen:
    pinned = (Requirement(text) for text in importlib.metadata.requires("zarr-cloud-bench") or ())
    wanted = next((str(one.specifier).removeprefix("==") for one in pinned if one.name == "asv"), "")
    try:
        importlib.import_module("asv")
        found = importlib.metadata.version("asv")
    except ImportError:
        return Seen(False, "cannot be imported", "missing", {"wanted": wanted})
    return Seen(found == wanted, found, words={"wanted": wanted})


def _program(name: str) -> Seen:
    path = shutil.which(name)
    version = _version_of([path, "--version"]) if path else None
    return Seen(path is not None, _dotted(version) if version else "found" if path else "not on PATH")


def _c_compiler() -> Seen:
    found = next(filter(None, map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))), None)
    return Seen(found is not None, Path(found).name if found else "none of cc, gcc, clang on PATH")


def _rust() -> Seen:
    cargo = rust.find_cargo()
    version = _version_of([Path(cargo).with_name("rustc"), "--version"]) if cargo else None
    oldest = _oldest_rust()
    found = f"rustc {_dotted(version)}" if version else "no cargo and rustc found"
    return Seen(version is not None and version >= oldest, found, words={"oldest": _dotted(oldest)})


def _oldest_rust() -> tuple[int, ...]:
    """Return the oldest version that builds ours, as the workspace demands; without its sources none is demanded."""
    manifest = rust.WORKSPACE / "Cargo.toml"
    demanded = _RUST_VERSION.search(manifest.read_text()) if manifest.exists() else None
    return tuple(map(int, demanded.groups())) if demanded else (0,)


def _store_binary() -> Seen:
    built, exists = rust.STORE.is_built(), rust.STORE.path.exists()
    found = "up to date" if built else "older than its sources" if exists else "not built yet"
    cure = "nothing: `zcb store start` builds it" if in_repository() else rust.STORE.absence()
    return Seen(built, found, words={"cure": cure})


def _store_running() -> Seen:
    running, owner = state.running(), state.other_owner()
    if running is None:
        return Seen(False, "no")
    whose = "" if owner is None else f", but it is {owner}'s"
    return Seen(True, f"profile {running.profile.name}, {running.endpoint}{whose}")


def _memory(size_of: Callable[[], _Size]) -> Seen:
    size, memory = size_of(), psutil.virtual_memory()
    # Only `whole_array` needs room for the largest array; the other patterns do with little.
    verdict: Verdict = "warn" if _suffices(min(size.array, _LEAST_ARRAY)) else "missing"
    found = f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free"
    return Seen(_suffices(size.array), found, verdict, {"array": _amount(size.array)})


def _suffices(array: int) -> bool:
    memory = psutil.virtual_memory()
    return memory.total >= _RAM_SHARE * array and memory.available >= 2 * array


def _amount(nbytes: int) -> str:
    return f"{nbytes / _GIB:.4g} GiB" if nbytes >= _GIB else f"{nbytes / 2**20:.4g} MiB"


def _disk(size_of: Callable[[], _Size], target: str | None) -> Seen:
    size, where = size_of(), state_dir()
    while not where.exists():
        where = where.absolute().parent
    free = shutil.disk_usage(where).free
    here = (target or EMBEDDED).partition(":")[0] == EMBEDDED
    objects = size.objects if here else 0
    verdict: Verdict = "missing" if free < max(objects, _GIB) else "warn"
    words = {"needed": _amount(objects + _BUILDS), "what": "objects, builds" if here else "builds"}
    return Seen(free >= objects + _BUILDS, f"{free / _GIB:.1f} GiB free", verdict, words)


def _open_files() -> Seen:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    unlimited = limit == resource.RLIM_INFINITY
    return Seen(unlimited or limit >= _FILES, "no limit" if unlimited else f"at most {limit}")


def _virtual_network() -> Seen:
    obstacle = veth.obstacle()
    return Seen(obstacle is None, obstacle or "allowed")


def _cores() -> Seen:
    # The cores this process may use, not the machine's: containers and taskset restrict them.
    count, limit = allowed_cores(), quota()
    if limit is None or limit >= count:
        return Seen(count > 1, str(count))
    return Seen(False, f"{cores_in_words(count)}, quota of {limit:g}")


def _governor() -> Seen:
    governors = {path.read_text().strip() for path in _CPUS.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return Seen(governors <= {_STEADY_GOVERNOR}, ", ".join(sorted(governors)) or "none: the host sets the clock rate")


def _other_load() -> Seen:
    load, count = os.getloadavg()[0], os.cpu_count() or 1
    return Seen(load <= _BUSY * count, f"{load:.1f} of {cores_in_words(count)}")


def _free_pages() -> Seen:
    goes = is_given_to_host()
    return Seen(not goes, "go back to this virtual machine's host" if goes else "stay with this machine")


def _zstd_contexts() -> Seen:
    seconds = _context_seconds()
    return Seen(seconds <= _CONTEXT_SECONDS, f"{seconds * 1e6:.1f} us each")


def _context_seconds() -> float:
    """Return what a new context of libzstd and the decoding of one byte take: the least of many.

    Whenever it makes one libzstd asks the processor what it can do, which a virtual machine has its host answer.
    """
    codec = Zstd()
    byte = codec.encode(b"0")
    return min(timeit.repeat(lambda: codec.decode(byte), number=1, repeat=300))


def _clock() -> Seen:
    source = _CLOCK.read_text().strip()
    return Seen(source in _STEADY_CLOCKS, source)


def _version_of(command: list[str | Path]) -> tuple[int, ...] | None:
    """Return the first version number a program prints, or None."""
    # From the repository, since rustup and pyenv choose by directory.
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=30)
    match = re.search(r"\d+(\.\d+)+", done.stdout)
    return tuple(map(int, match.group().split("."))) if match else None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
