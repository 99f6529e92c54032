"""Readers: one library stack per file. A file with a `Reader` subclass that has a name is all it takes to add one."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Sequence
from functools import cache

from harness.errors import BadUseError, unknown
from harness.readers.base import ZARR_PYTHON, Reader
from harness.readers.settings import TUNED
from harness.results.sample import FLAG_IN_FLIGHT, NETWORK_LIMIT, Sample

__all__ = [
    "MAIN",
    "ZARR_PYTHON",
    "Reader",
    "all_readers",
    "benchmarked",
    "clients",
    "derived",
    "limit_clients",
    "named",
    "reader_class",
    "representatives",
    "tuned",
    "tuned_readers",
    "under_test",
    "why_few_in_flight",
    "with_main",
    "without_layers",
]

MAIN = "+main"
"""Behind the name of a reader that is built with its crates' main branch."""

_NO_READERS = ("base", "settings", "tunings", "worker")
"""Modules here that hold none."""


@cache
def all_readers() -> dict[str, type[Reader]]:
    """Return the readers by name, ordered by rank and name, found by looking into this folder's modules."""
    found: set[type[Reader]] = set()
    for info in pkgutil.iter_modules(__path__):
        if info.name not in _NO_READERS:
            members = vars(importlib.import_module(f"{__name__}.{info.name}")).values()
            found |= {m for m in members if inspect.isclass(m) and issubclass(m, Reader) and "name" in vars(m)}
    return {reader.name: reader for reader in sorted(found, key=lambda reader: (reader.rank, reader.name))}


def reader_class(name: str) -> type[Reader]:
    """Return the class of the reader of that name, maybe with a suffix behind it; a BadUseError lists the choices."""
    readers = all_readers()
    if name in readers:
        return readers[name]
    for suffix, made in _DERIVED.items():
        of = name.removesuffix(suffix)
        if of != name and of in readers:
            return made(readers[of])
    raise unknown("reader", name, [*readers, *derived()])


def named(names: Iterable[str]) -> list[str]:
    """Return the readers of these names, each once; a BadUseError for one that has no row of its own."""
    found = list(dict.fromkeys(reader_class(name.strip()).name for name in names))
    if any(reader_class(name).competes_for is not None and name != NETWORK_LIMIT for name in found):
        raise BadUseError(f"the limit's clients have no row of their own: ask for `{NETWORK_LIMIT}`, or `zcb limit`")
    return found


@cache
def tuned(reader: type[Reader]) -> type[Reader]:
    """Return the reader with the settings that `zcb tune` found; a BadUseError says that it has none to set."""
    if not reader.settings:
        raise BadUseError(f"{reader.name} has no settings to tune: choose from {', '.join(tuned_readers())}")
    changed = {"name": f"{reader.name}{TUNED}", "tuned_of": reader.name, "represents": None}
    return type(f"{reader.__name__}Tuned", (reader,), changed)


@cache
def with_main(reader: type[Reader]) -> type[Reader]:
    """Return the reader with its crates' main branch; a BadUseError says that it has none of our own build."""
    if not reader.crates:
        raise BadUseError(f"{reader.name} is built from no crate: choose from {', '.join(_main_readers())}")
    changed = {"name": f"{reader.name}{MAIN}", "main_of": reader.name, "represents": None, "settings": ()}
    return type(f"{reader.__name__}Main", (reader,), changed)


_DERIVED = {TUNED: tuned, MAIN: with_main}
"""What a suffix makes of a reader's class."""


def derived() -> list[str]:
    """Return the names of the readers that are made of others: ``+tuned``, and ``+main``."""
    return [*tuned_readers(), *_main_readers()]


def _main_readers() -> list[str]:
    return [f"{name}{MAIN}" for name, reader in all_readers().items() if reader.crates]


def tuned_readers() -> list[str]:
    """Return the names of the readers with settings of a search."""
    return [f"{name}{TUNED}" for name, reader in all_readers().items() if reader.settings]


def benchmarked() -> list[str]:
    """Return the readers with a row of their own in every pattern, as their documentation tells a newcomer."""
    return [name for name, reader in all_readers().items() if reader.competes_for is None]


def without_layers() -> list[str]:
    """Return the readers with a row of their own that add no layer to another: those of a quick job."""
    return [name for name in benchmarked() if all_readers()[name].layer_over is None]


def under_test() -> list[str]:
    """Return the readers that read with the zarr-python under test, from store to array, and with nothing above it."""
    return [name for name in without_layers() if all_readers()[name].decoder == ZARR_PYTHON]


def limit_clients() -> list[str]:
    """Return the clients that compete for the network limit: obstore's and the Rust binary's."""
    return clients(NETWORK_LIMIT)


def why_few_in_flight(name: str, samples: Sequence[Sample], in_flight: int) -> str | None:
    """Return why a row's reader had fewer requests in flight than it may, by its library's source.

    None where its samples are not marked for that, or nothing is known of the library.
    """
    few = [one for one in samples if FLAG_IN_FLIGHT in one.flags and (one.max_in_flight or 0) < in_flight]
    reader = all_readers().get(name.removesuffix(TUNED).removesuffix(MAIN))
    return reader.holds_back if few and reader else None


def clients(row: str) -> list[str]:
    """Return the readers whose workers can take samples of `row`: for the network limit, all that compete for it."""
    competing = [name for name, reader in all_readers().items() if reader.competes_for == row]
    return competing or [row]


def representatives() -> dict[str, list[str]]:
    """Return the readers that stand for their decoder: decoder -> readers, those asked first at the front."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name, reader in all_readers().items():
        if reader.decoder is not None and reader.represents is not None:
            found.setdefault(reader.decoder, []).append((reader.represents, name))
    return {decoder: [name for _, name in sorted(standing)] for decoder, standing in found.items()}
