"""asv's configurations: each is made here from one base, what it measures, and the store's network.

``python -m harness.asv.configurations`` writes them (``make asv-configs``, and ``make lock`` does so too): asv reads
files, so they are committed, and a test demands that they are what this module makes. `for_target` makes further ones
for other targets: figures of two targets never share results.
"""

import functools
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from harness.asv import wheels
from harness.errors import BadUseError
from harness.paths import ROOT, ZARR_REPOSITORY, write_atomically
from harness.readers import all_readers

LOOPBACK, VIRTUAL, TAIL = "embedded:s3", "embedded:s3+veth", "embedded:s3-tail"
"""Targets: one per network of the embedded store, and first bytes with a tail."""

FILES = {
    "asv.releases.conf.json": ("releases", LOOPBACK),
    "asv.veth.conf.json": ("releases", VIRTUAL),
    "asv.tail.conf.json": ("releases", TAIL),
    "asv.conf.json": ("zarr-python", LOOPBACK),
    "asv.zarr-python.veth.conf.json": ("zarr-python", VIRTUAL),
    "asv.matrix.conf.json": ("matrix", LOOPBACK),
    "asv.matrix.veth.conf.json": ("matrix", VIRTUAL),
}
"""What each file measures, and where: those of a kind differ by the target, and share environments and results."""

_LOCK = ROOT / "requirements.lock"
_UNDER_TEST = "zarr"
_MEASURED = ("benchmarks", "harness.readers")  # what runs in asv's environments
_SHOWS = "asv"  # imported by what shows results, which lies among what measures
_RUNNER = "asv-runner"

_KINDS: dict[str, dict[str, Any]] = {
    "releases": {"repo": ".zcb/history", "branches": ["main"]},
    "zarr-python": {
        "repo": ZARR_REPOSITORY,
        "branches": ["main", "pull/3004/head"],
        "show_commit_url": ZARR_REPOSITORY.removesuffix(".git") + "/commit/",
    },
    "matrix": {"repo": ".", "branches": ["HEAD"]},  # builds are environments, of one commit of this repository
}

_COMMANDS = {
    "build_command": ["python -m pip wheel --no-deps -w {build_cache_dir} {build_dir}"],
    "install_command": [
        "in-dir={env_dir} python -m pip install --no-deps --force-reinstall {wheel_file}",
        "in-dir={env_dir} python -m pip install {wheel_file}",
        "in-dir={env_dir} python -m pip check",
    ],
    "uninstall_command": ["return-code=any python -m pip uninstall -y zarr"],
}


def make(kind: str, target: str) -> dict[str, Any]:
    """Return the configuration that measures `kind` at `target`.

    Raises
    ------
    BadUseError
        The lock lacks a package that the readers need, or wheels.toml is malformed.
    """
    requirements = pins()
    if kind == "matrix":
        requirements[_UNDER_TEST] = [understood(version) for version in wheels.planned()]
    return {
        "version": 1,
        "project": "zarr-python",
        "project_url": ZARR_REPOSITORY.removesuffix(".git"),
        **_KINDS[kind],
        "dvcs": "git",
        "plugins": [".harness.asv.plugin"],
        **({key: [] for key in _COMMANDS} if kind == "matrix" else _COMMANDS),
        "environment_type": "virtualenv",
        "benchmark_dir": "benchmarks",
        "env_dir": f".asv/{kind}/env",
        "results_dir": f"results/{kind}",
        "html_dir": "html",
        "build_cache_size": 20,
        "launch_method": "forkserver",
        "install_timeout": 1200,
        "default_benchmark_timeout": 600,
        "matrix": {"req": requirements, "env_nobuild": {"ZCB_TARGET": [target], "ZCB_PRESET": ["demo"]}},
    }


def pins() -> dict[str, list[str]]:
    """Return the versions that asv's environments hold besides zarr, by name: the lock's, of what is measured with."""
    locked = _locked(_LOCK)
    names = sorted(_with_dependencies({*_imported(), *_declared()} - {_SHOWS}) - {_UNDER_TEST})
    missing = [name for name in (*names, _RUNNER) if name not in locked]
    if missing:
        raise BadUseError(f"{_LOCK.name} lacks {', '.join(missing)}: add it to pyproject.toml and run `make lock`")
    # With any other name asv would add a runner of its own choice.
    return {name: [locked[name]] for name in names} | {"pip+asv_runner": [locked[_RUNNER]]}


def understood(version: str) -> str:
    """Return what asv 0.6.6 can hold of a version: it cuts ``.postN`` and everything after ``+``."""
    parsed = Version(version)
    return parsed.base_version + "".join(map(str, parsed.pre or ()))


def _locked(lock: Path) -> dict[str, str]:
    """Return versions by name, as asv understands them."""
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(name): understood(version) for name, version in found}


@functools.cache
def _imported() -> frozenset[str]:
    """Return the packages that the code imports which runs in asv's environments, wherever in it the import stands."""
    import grimp  # for developers, as is what calls this

    ours = ("harness", "benchmarks")
    graph = grimp.build_graph(*ours, include_external_packages=True, exclude_type_checking_imports=True)
    modules = {name for root in _MEASURED for name in graph.find_upstream_modules(root, as_package=True)}
    packages = {name.partition(".")[0] for name in modules} - {*ours} - sys.stdlib_module_names
    owners = importlib.metadata.packages_distributions()
    return frozenset(canonicalize_name(owners[name][0]) for name in packages)


def _declared() -> Iterator[str]:
    """Yield the packages that readers name as theirs: some are found by a library, so no import shows them."""
    for reader in all_readers().values():
        yield from map(canonicalize_name, reader.packages)


def _with_dependencies(names: Iterable[str]) -> set[str]:
    """Return packages and all that they require, as their installed metadata say."""
    found: set[str] = set()
    todo = set(names)
    while todo:
        name = todo.pop()
        found.add(name)
        needed = map(Requirement, importlib.metadata.requires(name) or ())
        todo |= {canonicalize_name(one.name) for one in needed if not one.marker or one.marker.evaluate({"extra": ""})}
        todo -= found
    return found


def text_of(configuration: Mapping[str, Any]) -> str:
    """Return a configuration as a file's text; a list of one stands in its line."""
    return re.sub(r'\[\s+("[^"\n]*")\s+\]', r"[\1]", json.dumps(configuration, indent=2)) + "\n"


_SHARED = ("benchmark_dir", "env_dir")
_OWN = {"results_dir": "results", "html_dir": "html"}
_ELSEWHERE = re.compile(r"^[a-z+]+://|^[\w.]+@|^/")


def for_target(source: Path, output: Path, *, target: str, preset: str) -> None:
    """Write `source` once more for `target` and `preset`, to anywhere.

    Environments stay those of `source`, since neither changes what is built. Results and pages get folders of their
    own, beside `output`.

    Raises
    ------
    BadUseError
        `source` cannot be read or is no asv configuration.
    """
    try:
        conf: dict[str, Any] = json.loads(source.read_text())
        settings = conf["matrix"]["env_nobuild"]
        shared = {name: conf[name] for name in _SHARED}
    except OSError as error:
        raise BadUseError(f"cannot read {source}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadUseError(f"{source} is no asv configuration of this repository: {error}") from error
    settings |= {"ZCB_TARGET": [target], "ZCB_PRESET": [preset]}
    conf |= {name: str(source.parent.resolve() / folder) for name, folder in shared.items()}
    conf |= {name: str(output.parent.resolve() / folder) for name, folder in _OWN.items()}
    if not _ELSEWHERE.match(conf["repo"]):
        conf["repo"] = str(source.parent.resolve() / conf["repo"])
    write_atomically(output, text_of(conf).encode())


@click.command
def write() -> None:
    """Write asv's configurations; name those that changed."""
    for name, (kind, target) in FILES.items():
        content = text_of(make(kind, target)).encode()
        path = ROOT / name
        if not path.is_file() or path.read_bytes() != content:
            write_atomically(path, content)
            click.echo(f"{name} is new")


if __name__ == "__main__":
    write()
