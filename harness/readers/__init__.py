"""Readers: one library stack per file. A file with a `Reader` subclass that has a name is all it takes to add one."""

import importlib
import inspect
import pkgutil
from functools import cache

from harness.errors import BadUseError
from harness.readers.base import Reader
from harness.results.sample import NETWORK_LIMIT

LIMIT_CLIENTS = (NETWORK_LIMIT, f"{NETWORK_LIMIT}+rust")
"""The clients that compete for the network limit: obstore's and the Rust binary's."""


@cache
def all_readers() -> dict[str, type[Reader]]:
    """Return the readers by name, in alphabetical order, found by looking into this folder's modules."""
    found = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for member in vars(module).values():
            if inspect.isclass(member) and issubclass(member, Reader) and "name" in vars(member):
                found[member.name] = member
    return dict(sorted(found.items()))


def reader_class(name: str) -> type[Reader]:
    """Return the class of the reader called `name`; a BadUseError lists the choices."""
    readers = all_readers()
    if name not in readers:
        raise BadUseError(f"unknown reader {name!r}: choose from {', '.join(readers)}")
    return readers[name]


def clients(name: str) -> list[str]:
    """Return the readers whose workers can take samples of `name`: for the network limit, all that compete for it."""
    return [client for client in LIMIT_CLIENTS if client in all_readers()] if name == NETWORK_LIMIT else [name]
