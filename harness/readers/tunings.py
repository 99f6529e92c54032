"""``tunings.toml``: the settings that `zcb tune` found best, each with its whole search (docs/tuning.md)."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.errors import BadUseError, UnsupportedError
from harness.paths import ROOT, in_repository, state_dir, write_atomically
from harness.readers.base import Reader
from harness.readers.settings import NOTHING, Given, Value, given
from harness.targets.target import Target
from harness.workload.model import Workload

TUNINGS_VARIABLE = "ZCB_TUNINGS"
"""Environment variable with another file."""

_HEAD = "# Settings that `zcb tune` found best, each with its whole search (docs/tuning.md). Written by that command.\n"

Outcome = Literal["better", "not better", "refused", "failed", "n/a"]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate against the best settings known by then."""

    settings: dict[str, Value]
    """Of the candidate; what is left out is as the library's documentation tells."""
    against: dict[str, Value]
    outcome: Outcome
    reason: str = ""
    """Of what was refused, failed or cannot be done."""
    ratio: float | None = None
    """Median of the candidate's seconds over those of the best settings, by pairs; None without a pair."""
    low: float | None = None
    """Ends of the interval of that median; None where the search did not need all pairs to know the outcome."""
    high: float | None = None
    seconds: list[float] = []
    """Of the candidate, a sample per pair."""
    seconds_against: list[float] = []
    flags: list[str] = []
    """What any of the samples was marked with (docs/metrics.md)."""


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found for a reader on one target, pattern and data set."""

    reader: str
    """Its name without ``+tuned``."""
    target: str
    """The target's identity without the network that the embedded store serves on, e.g. ``embedded:s3``."""
    pattern: str
    dataset: str
    """The array's key, e.g. ``demo/small``."""
    in_flight: int
    settings: dict[str, Value]
    """What is better than the defaults; none where nothing is."""
    complete: bool
    """Whether every candidate was tried; False where the time was up."""
    ratio: float | None = None
    """Seconds over those with the defaults, by pairs: its median and interval; None where the defaults are best."""
    low: float | None = None
    high: float | None = None
    workload: str
    """Label of the workload that was read."""
    digest: str
    """Its identity."""
    link: str
    """Network of the embedded store, ``lo`` or ``veth``; empty elsewhere."""
    cores: int
    versions: dict[str, str]
    started: str
    """Local time with its offset, ISO 8601."""
    search_seconds: float
    trials: list[Trial] = []

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What it holds for."""
        return self.reader, self.target, self.pattern, self.dataset, self.in_flight


class _File(msgspec.Struct, kw_only=True):
    tuning: list[Tuning] = []


def place(target: Target) -> str:
    """Return what a tuning calls a target: the embedded store's network changes no time of service."""
    return msgspec.structs.replace(target, link=None).identity


def tunings_file() -> Path:
    """Return the file (``ZCB_TUNINGS``, default ``tunings.toml`` in the repository, else in the state directory)."""
    return Path(os.environ.get(TUNINGS_VARIABLE) or (ROOT if in_repository() else state_dir()) / "tunings.toml")


def load() -> list[Tuning]:
    """Return what was found so far; a BadUseError says that the file is malformed."""
    path = tunings_file()
    try:
        found = path.stat()
        return _load(path, (found.st_mtime_ns, found.st_ino))
    except FileNotFoundError:
        return []


@cache
def _load(path: Path, _as_of: tuple[int, int]) -> list[Tuning]:
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File).tuning
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise BadUseError(f"{path}: {error}") from error


def find(reader: type[Reader], workload: Workload) -> Tuning | None:
    """Return what holds for a reader and a workload; None where nothing was searched for."""
    name = reader.tuned_of or reader.name
    key = (name, place(workload.target), workload.pattern, workload.array.key, workload.in_flight)
    return next((tuning for tuning in load() if tuning.key == key), None)


def given_for(reader: type[Reader], workload: Workload) -> Given:
    """Return the settings that a reader's process gets for a workload: none where it is not a tuned one.

    Raises
    ------
    UnsupportedError
        It is a tuned one, and nothing was searched for this target, pattern and data set.
    BadUseError
        The file is malformed, or names a setting that the reader does not have.
    """
    if reader.tuned_of is None:
        return NOTHING
    tuning = find(reader, workload)
    if tuning is None:
        raise UnsupportedError(
            f"not tuned at {place(workload.target)} for this pattern, data set and number of requests in flight: "
            f"`zcb tune {reader.tuned_of} w.json` does that"
        )
    try:
        return given(reader.settings, tuning.settings, in_flight=workload.in_flight)
    except BadUseError as error:
        raise BadUseError(f"{tunings_file()}: {reader.tuned_of}: {error}") from error


def keep(tuning: Tuning) -> Path:
    """Write a tuning down, in the place of an older one for the same; return the file."""
    path = tunings_file()
    kept = sorted([*(old for old in load() if old.key != tuning.key), tuning], key=lambda one: one.key)
    write_atomically(path, "\n".join([_HEAD, *map(_toml, kept)]).encode())
    return path


def _toml(tuning: Tuning) -> str:
    """Return a tuning as TOML: a table, and one for each of its trials."""
    fields: dict[str, Any] = msgspec.to_builtins(tuning)
    trials = fields.pop("trials")
    lines = ["[[tuning]]", *_lines(fields), ""]
    for trial in trials:
        lines += ["[[tuning.trials]]", *_lines(trial), ""]
    return "\n".join(lines)


def _lines(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table; TOML has no null, so what is unknown is left out."""
    return (f"{name} = {_value(value)}" for name, value in fields.items() if value is not None)


def _value(value: Any) -> str:
    """Return a value as TOML, which writes all but tables as JSON does."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_value(of)}" for name, of in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
