"""Public settings of a library that a search may try (docs/tuning.md): each reader declares a small space of them.

A reader by its own name has what its documentation tells a newcomer. With ``+tuned`` behind the name it has the
settings that `zcb tune` found best for the workload's target, pattern and data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import BadUseError
from harness.machine.cpu import cores

TUNED = "+tuned"
"""What a reader's name ends with that has settings of a search."""

Value = bool | int | str

IN_FLIGHT = "in-flight"
"""Stands for the number of requests in flight that the workload asks for."""

CORES = "cores"
"""Stands for the number of threads that can be kept busy."""

ENVIRONMENT = "the process's environment"
"""Where a setting is given that a library reads once, when its process starts."""

CALLS = "how it is called"
"""Where a setting is given that is no name of the library's, but which of its public calls are made."""


MERGE_GAP, MERGE_BYTES = "merge gap", "merge bytes"
"""Parts that a setting plays: bytes between two chunks up to which they share a request, and the largest request that
chunks share."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One public setting of a library."""

    name: str
    """The library's own name of it."""
    of: str
    """Where it is given, e.g. ``zarr.config``."""
    default: str
    """What the reader without ``+tuned`` has, in words."""
    values: tuple[Value, ...]
    """What a search tries instead."""
    meaning: str
    part: str = ""
    """`MERGE_GAP` or `MERGE_BYTES` where it is one of these, of whatever library."""


TOKIO_THREADS = Setting(
    name="TOKIO_WORKER_THREADS",
    of=ENVIRONMENT,
    default="cores",
    values=(1, 4, 16),
    meaning="Threads of the runtime that sends requests in Rust.",
)
"""Of everything that is built on tokio."""

OBSTORE_CLIENT = "obstore's client_options"

OBSTORE_POOL = Setting(
    name="pool_max_idle_per_host",
    of=OBSTORE_CLIENT,
    default="unlimited",
    values=(16, IN_FLIGHT),
    meaning="Connections that are kept for the next requests.",
)


class Given(NamedTuple):
    """Settings as a reader's process gets them, numbers in the place of names."""

    environment: dict[str, str]
    """Variables that it starts with."""
    opening: dict[str, Value]
    """By name, in the message that opens a workload."""

    @property
    def all(self) -> dict[str, Value]:
        """All of them by name, as results show them."""
        return {**self.environment, **self.opening}


NOTHING = Given({}, {})
"""What a reader gets that is as its documentation tells."""


def given(space: Sequence[Setting], chosen: Mapping[str, Value], *, in_flight: int) -> Given:
    """Return chosen settings as a process gets them.

    Parameters
    ----------
    space
        The settings that the reader has.
    chosen
        Name of a setting -> its value; one that is left out is as the library's documentation tells.
    in_flight
        Requests in flight that the workload asks for.

    Raises
    ------
    BadUseError
        A setting that the reader does not have.
    """
    check(space, chosen)
    numbers: dict[Value, Value] = {IN_FLIGHT: in_flight, CORES: cores()}
    values = {name: numbers.get(value, value) if isinstance(value, str) else value for name, value in chosen.items()}
    of_process = {setting.name for setting in space if setting.of == ENVIRONMENT}
    return Given(
        {name: str(value) for name, value in values.items() if name in of_process},
        {name: value for name, value in values.items() if name not in of_process},
    )


def check(space: Sequence[Setting], chosen: Mapping[str, Value]) -> None:
    """Raise a BadUseError where a setting was chosen that the reader does not have."""
    known = [setting.name for setting in space]
    for name in chosen:
        if name not in known:
            raise BadUseError(f"there is no setting {name!r}: choose from {', '.join(known) or 'none'}")


def in_words(chosen: Mapping[str, Value]) -> str:
    """Return settings in one line."""
    return ", ".join(f"{name}={value}" for name, value in chosen.items()) or "as documented"
