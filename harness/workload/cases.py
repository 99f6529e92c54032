"""The cases that are measured, as ``workloads.toml`` names them: each once, with its uses.

Light to import: asv starts a process per combination of parameters, and each of them reads this.
"""

import os
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from harness.errors import BadUseError
from harness.paths import shipped
from harness.workload.patterns import Parameters, pattern

Use = Literal["asv", "quick", "plain", "verdict", "verdict-quick", "verdict-named", "soak"]
"""What a case can be used for; workloads.toml says what each means."""

Key = tuple[str | int, ...]
"""The values of a pattern's axes, as asv shows them."""

_DATASET = "dataset"
"""The axis that is no parameter of a pattern."""


class Recording(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a case is recorded as a timeline."""

    name: str
    """On the page of timelines."""
    pairs: Annotated[int, msgspec.Meta(ge=0)]
    """Recorded and plain executions that show what recording costs."""
    recordings: Annotated[int, msgspec.Meta(ge=1)] = 5
    """How often it is recorded in a full run, each time by a fresh process; in a quick one once."""
    quick: bool = False
    """Whether it is recorded in a quick `make bench`."""


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern on a data set, with what it is asked for and used for."""

    pattern: str
    """In the file it is the name of the table that the case stands in."""
    dataset: str
    """``small``, of whatever preset is measured, or ``headline/gem3``."""
    parameters: Parameters = Parameters()
    uses: frozenset[Use] = frozenset()
    survey: str | None = None
    """Its title in a survey; None where it is no part of one."""
    timeline: Recording | None = None
    """None where it is not recorded."""

    @property
    def label(self) -> str:
        """The label of its workload, e.g. ``chunks_of_one_shard small gap=1``."""
        return self.parameters.label(self.pattern, self.dataset)


class PatternRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for all cases of a pattern."""

    axes: tuple[str, ...]
    """asv's parameters after the reader: ``dataset``, and parameters of the pattern."""
    verdict_seconds: Annotated[float, msgspec.Meta(gt=0)]
    """A verdict's budget for each reader and case."""
    round_seconds: Annotated[float, msgspec.Meta(gt=0)]
    """What an execution of every reader and of the network limit takes on two cores, all of them one by one."""


class _Table(PatternRules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern as it stands in the file."""

    cases: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Cases:
    """All that the file says."""

    presets: tuple[str, ...]
    """Every case whose data set is named without its preset can be made on each of these."""
    patterns: Mapping[str, PatternRules]
    """By name, in the file's order."""
    all: tuple[Case, ...]

    def used(self, *uses: Use, pattern: str | None = None) -> list[Case]:
        """Return the cases with one of these uses, of one pattern or of all, in the file's order."""
        return [case for case in self.all if case.uses.intersection(uses) and pattern in (None, case.pattern)]

    def needed(self, *uses: Use, pattern: str | None = None) -> list[Case]:
        """Return what `used` returns; a BadUseError says that there is none."""
        found = self.used(*uses, pattern=pattern)
        if not found:
            of_pattern = "" if pattern is None else f" of pattern {pattern!r}"
            raise BadUseError(f"{cases_file()} names no case{of_pattern} with the use {' or '.join(uses)}")
        return found

    def key(self, case: Case) -> Key:
        """Return a case's values on its pattern's axes; a ValueError names one that it does not have."""
        values = {_DATASET: case.dataset, **case.parameters.given()}
        axes = self.patterns[case.pattern].axes
        missing = [axis for axis in axes if axis not in values]
        if missing:
            raise ValueError(f"{case.pattern}: a case on {case.dataset!r} that asv measures has no {missing[0]!r}")
        return tuple(v if isinstance(v, str | int) else Parameters.text(v) for v in map(values.__getitem__, axes))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The cases of an asv class by its parameters after the reader."""

    names: list[str]
    values: list[list[str | int]]
    """Of each axis, in the order of their first case. Not every combination has to be a case."""
    cases: dict[Key, Case]


def cases_file() -> Path:
    """Return the file that names the cases (``ZCB_WORKLOADS``, default ``workloads.toml``)."""
    return Path(os.environ.get("ZCB_WORKLOADS") or shipped("workloads.toml"))


def load() -> Cases:
    """Read the file.

    Raises
    ------
    BadUseError
        It cannot be read, or says something else than cases; the message is one line.
    """
    return _load(cases_file())


def grid(pattern_name: str, use: Use = "asv", *, only: str | None = None, without: str | None = None) -> Grid:
    """Return a pattern's cases of one use as asv's parameters: all, on the data set `only`, or on all but `without`.

    Raises
    ------
    BadUseError
        As `load`, or there are no such cases.
    """
    known = load()
    needed = known.needed(use, pattern=pattern_name)
    asked = [case for case in needed if only in (None, case.dataset) and case.dataset != without]
    found = {known.key(case): case for case in asked}
    names = list(known.patterns[pattern_name].axes)
    values = [list(dict.fromkeys(key[axis] for key in found)) for axis in range(len(names))]
    return Grid(names=names, values=values, cases=found)


@cache
def _load(path: Path) -> Cases:
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        found = _cases(tables)
        _check(found)
    except OSError as error:
        raise BadUseError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, BadUseError) as error:  # TOML, its encoding and msgspec raise ValueErrors
        raise BadUseError(f"{path}: {error}") from error
    return found


def _cases(tables: dict[str, Any]) -> Cases:
    presets = _converted("presets", tables.pop("presets", None), tuple[str, ...])
    found = {pattern(name).name: _converted(name, table, _Table) for name, table in tables.items()}
    cases = [
        _case(name, f"{name}, case {number}", entry)
        for name, table in found.items()
        for number, entry in enumerate(table.cases, start=1)
    ]
    return Cases(presets=presets, patterns=found, all=tuple(cases))


def _case(name: str, where: str, entry: dict[str, Any]) -> Case:
    case, rule = _converted(where, {"pattern": name} | entry, Case), pattern(name)
    if case.pattern != name:
        raise ValueError(f"{where}: it is of another pattern than its table")
    unknown = [parameter for parameter in entry.get("parameters", ()) if parameter not in rule.accepts]
    if unknown:
        raise ValueError(f"{where}: the pattern has no parameter {unknown[0]!r}")
    rule.check(case.parameters)
    return case


def _converted[T](where: str, value: Any, into: type[T]) -> T:
    try:
        return msgspec.convert(value, into)
    except msgspec.ValidationError as error:
        raise ValueError(f"{where}: {error}") from error


def _check(found: Cases) -> None:
    """Refuse what cannot be told apart, or not be measured; a ValueError says what."""
    for name, rules in found.patterns.items():
        unknown = [axis for axis in rules.axes if axis not in (_DATASET, *pattern(name).accepts)]
        if unknown:
            raise ValueError(f"{name}: the pattern has no parameter {unknown[0]!r}, so it is no axis")
    _demand_once("case", ((case.pattern, case.dataset, case.parameters) for case in found.all))
    _demand_once("row of asv", ((case.pattern, *found.key(case)) for case in found.used("asv", "plain")))
    _demand_once("title of a survey", (case.survey for case in found.all if case.survey is not None))
    _demand_once("timeline", (case.timeline.name for case in found.all if case.timeline is not None))


def _demand_once(what: str, values: Iterable[object]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"the {what} {twice[0]!r} stands there twice")
