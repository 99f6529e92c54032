"""Values of options that click has no type for."""

import math
import os
from pathlib import Path
from typing import Any

import click

from harness.errors import BadUseError
from harness.paths import repository_file, write_atomically
from harness.targets.timeouts import DEFAULT_SECONDS

ENV = click.option(
    "--env",
    multiple=True,
    metavar="NAME",
    help="Measure with this variable of the environment, which is otherwise left out; may be repeated.",
)


class FiniteRange(click.FloatRange):
    """A number within bounds, which neither nan (it compares with nothing) nor infinity is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class OutputFile(click.Path):
    """A file to write, in a folder that is there: what stands against it is said before the work and not after.

    It may also be a device or a FIFO, which is written to (`harness.paths.replacing`).
    """

    def __init__(self) -> None:
        super().__init__(dir_okay=False, readable=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        why_not = _why_not(path)
        if why_not is not None:
            self.fail(f"cannot write {str(path)[:200]!r}: {why_not}", param, ctx)
        return path


def _why_not(path: Path) -> str | None:
    """Return why a file cannot be written; None where nothing stands against it."""
    try:
        if path.is_dir():
            return "it is a directory"
        if path.exists() and not path.is_file():
            return None if os.access(path, os.W_OK) else "it may not be written to"
        folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
        if not folder.is_dir():
            return f"there is no folder {str(folder)[:200]!r}"
        return None if os.access(folder, os.W_OK) else f"nothing may be written into {str(folder)[:200]!r}"
    except (OSError, ValueError):  # a name too long, or with a NUL
        return "it is no name of a file"


timeout_option = click.option(
    "--timeout",
    type=FiniteRange(min=0.001, max=86_400),
    default=DEFAULT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long the store may be silent: for a connection, for an answer, for the next part of its body.",
)
"""What a command takes that asks a store; it hands the value to `harness.targets.timeouts.silence_allowed`."""


def default_config() -> Path:
    """Return the asv configuration whose results are shown unless another is named: that of the releases."""
    return repository_file("asv.releases.conf.json", instead="name an asv configuration by --config")


def write_output(path: Path, content: bytes) -> None:
    """Write a file that a person named, whole or not at all; a BadUseError says why that is impossible."""
    try:
        write_atomically(path, content)
    except OSError as error:
        raise BadUseError(f"cannot write {path}: {error.strerror}") from error


def check_sessions(samples: int, sessions: int) -> None:
    """Refuse to spread samples over more sessions than there are samples."""
    if samples < sessions:
        raise BadUseError(f"{samples} samples cannot be spread over {sessions} sessions")
