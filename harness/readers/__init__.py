"""Readers: one library stack per file. A file with a `Reader` subclass that has a name is all it takes to add one."""

import importlib
import inspect
import pkgutil
from functools import cache

from harness.errors import unknown
from harness.readers.base import ZARR_PYTHON, Reader
from harness.results.sample import NETWORK_LIMIT

__all__ = [
    "ZARR_PYTHON",
    "Reader",
    "all_readers",
    "benchmarked",
    "clients",
    "limit_clients",
    "reader_class",
    "representatives",
    "under_test",
]

_NO_READERS = ("base", "worker")
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
    """Return the class of the reader called `name`; a BadUseError lists the choices."""
    readers = all_readers()
    if name not in readers:
        raise unknown("reader", name, readers)
    return readers[name]


def benchmarked() -> list[str]:
    """Return the readers with a row of their own: those in every pattern, and what `all` means."""
    return [name for name, reader in all_readers().items() if reader.competes_for is None]


def under_test() -> list[str]:
    """Return the readers that read with the zarr-python under test, from store to array."""
    return [name for name, reader in all_readers().items() if reader.decoder == ZARR_PYTHON]


def limit_clients() -> list[str]:
    """Return the clients that compete for the network limit: obstore's and the Rust binary's."""
    return clients(NETWORK_LIMIT)


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
