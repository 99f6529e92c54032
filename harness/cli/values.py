"""Values of options that click has no type for."""

import math
import os
from pathlib import Path
from typing import Any

import click

from harness.errors import BadUseError
from harness.paths import repository_file, write_atomically


class FiniteRange(click.FloatRange):
    """A number within bounds, which neither nan (it compares with nothing) nor infinity is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class OutputFile(click.Path):
    """A file to write: neither a directory nor below anything but one, which is said before the work and not after."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            held = next(parent for parent in path.absolute().parents if parent.exists())
            possible = held.is_dir() and os.access(held, os.W_OK) and not path.is_dir()
        except (OSError, ValueError):  # a name too long, or with a NUL
            possible = False
        if not possible:
            self.fail(f"cannot write {str(path)[:200]!r}: it is a directory, or cannot be made where it is", param, ctx)
        return path


def default_config() -> Path:
    """Return the asv configuration whose results are shown unless another is named: that of the releases."""
    return repository_file("asv.releases.conf.json", instead="name an asv configuration by --config")


def write_output(path: Path, content: bytes) -> None:
    """Write a file that a person named, whole or not at all; a BadUseError says why that is impossible."""
    try:
        write_atomically(path, content)
    except OSError as error:
        raise BadUseError(f"cannot write {path}: {error.strerror}") from error
