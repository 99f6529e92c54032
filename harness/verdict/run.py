"""One comparison from what a person asked for to a kept verdict."""

import datetime
import itertools
import logging
import math
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name

from harness.errors import BadUseError
from harness.machine.environment import let_in
from harness.machine.redact import redacted
from harness.paths import state_dir, write_atomically
from harness.readers import ZARR_PYTHON, benchmarked, reader_class, representatives
from harness.targets.target import Target
from harness.verdict import builds, crates, pythons, sides
from harness.verdict.judge import Rules, compare, empty
from harness.verdict.model import SideRecord, Verdict
from harness.verdict.sides import Side
from harness.verdict.statistics import ERROR_RATE, SMALLEST_EFFECT
from harness.workload import cases
from harness.workload import model as workloads
from harness.workload.cases import Case
from harness.workload.create import create_workload
from harness.workload.model import Workload
from harness.workload.patterns import pattern

_log = logging.getLogger(__name__)


_QUICK_SECONDS = 20.0  # six blocks, the first look, take up to that long
_MINUTES = 120.0
"""From here on a duration is told in minutes."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be compared."""

    base: str
    head: str
    target: Target
    repository: str | None = None
    readers: Sequence[str] = ()
    patterns: Sequence[str] = ()
    base_config: Mapping[str, str] = field(default_factory=dict)
    head_config: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that both sides' processes have beside those of a sealed environment."""
    quick: bool = False
    seconds: float | None = None
    """Budget of each reader and workload; None takes the pattern's."""
    smallest: float = SMALLEST_EFFECT
    in_flight: int = workloads.DEFAULT_IN_FLIGHT
    seed: int = 0
    subject: str | None = None
    """What is compared, where that has a name."""


def plan(request: Request) -> tuple[list[str], list[Workload]]:
    """Return the readers and workloads of a comparison; reads manifests and indexes at the target.

    Raises
    ------
    BadUseError
        An unknown reader or pattern, a reader that does not read with what is compared, or a malformed file of cases.
    StoreError
        The target cannot be reached.
    """
    return _readers(request), [
        create_workload(
            case.pattern,
            request.target,
            dataset=case.dataset,
            parameters=case.parameters,
            in_flight=request.in_flight,
        )
        for case in cases_of(request)
    ]


def cases_of(request: Request) -> list[Case]:
    """Return the cases of the patterns that are named, or else of the comparison as a whole."""
    if not request.patterns:
        return cases.load().needed("verdict-quick" if request.quick else "verdict")
    names = [pattern(name).name for name in request.patterns]
    return [case for name in names for case in of_pattern(name, quick=request.quick)]


def of_pattern(name: str, *, quick: bool = False) -> list[Case]:
    """Return the cases that a comparison has of a pattern, the usual first; a BadUseError says that there are none.

    A quick one has its quick cases alone, where there are any.
    """
    known = cases.load()
    few = known.used("verdict-quick", pattern=name) if quick else []
    every = known.needed("verdict", "verdict-named", pattern=name)
    return few or sorted(every, key=lambda case: "verdict" not in case.uses)


def usual_readers(request: Request) -> list[str]:
    """Return the readers that are compared unless others are named: zarr-python over its stores, quickly over one."""
    if _compares_crates(request):
        return crates.readers()
    of_packages = [name for name in benchmarked() if _packages(request).intersection(reader_class(name).packages)]
    affected = [name for name in representatives()[ZARR_PYTHON] if _is_affected(name, request)]
    usual = of_packages or affected or [name for name in benchmarked() if _is_affected(name, request)]
    return usual[: 1 if request.quick else None]


def _readers(request: Request) -> list[str]:
    of_crates = _compares_crates(request)
    readers = list(request.readers or usual_readers(request))
    packages = _packages(request)
    if not readers:
        used = sorted({package for name in benchmarked() for package in reader_class(name).packages})
        raise BadUseError(
            f"no reader uses {' or '.join(sorted(packages))}, so there is nothing to compare: "
            f"readers use {', '.join(used)} and what these require"
        )
    for name in readers:
        reader_class(name)  # says what there is
        if of_crates and name not in crates.readers():
            raise BadUseError(f"{name} does not read with the zarrs crate: choose from {', '.join(crates.readers())}")
        if not of_crates and not _is_affected(name, request):
            able = [one for one in benchmarked() if _is_affected(one, request)]
            what = " or ".join(sorted(packages)) or ("Python" if _compares_pythons(request) else "zarr-python")
            raise BadUseError(
                f"{name} does not use {what}, so there is nothing to compare: "
                f"choose from {', '.join(able) or 'none, no reader does'}"
            )
    _tell_required(readers, packages)
    return readers


def _tell_required(readers: Sequence[str], packages: Set[str]) -> None:
    """Say of packages that no reader names that their part in a read is unknown."""
    named = {package for name in readers for package in reader_class(name).packages}
    for package in sorted(packages - named):
        _log.info(f"{package} is required by packages of {', '.join(readers)}: whether it is loaded is not known")


def _is_affected(reader: str, request: Request) -> bool:
    """Whether what is compared can matter to a reader: zarr, or a package, to those that name it or require it."""
    if _compares_pythons(request):
        return reader not in crates.readers()
    named, of_zarr, packages = _named(request), reader_class(reader).uses_zarr_python(), _packages(request)
    if of_zarr and (request.base_config or request.head_config or any(map(sides.is_zarr, named))):
        return True
    if packages:
        return not packages.isdisjoint(sides.with_required(reader_class(reader).packages))
    return not (request.base_config or request.head_config) and not any(map(sides.is_zarr, named))


def _named(request: Request) -> set[str]:
    return {request.base, request.head} - {sides.AS_IT_IS}


def _packages(request: Request) -> set[str]:
    """Return the packages but zarr whose versions are compared."""
    if _compares_crates(request) or _compares_pythons(request):
        return set()
    exact = [sides.requirement(spec) for spec in _named(request)]
    return {str(canonicalize_name(one.partition("==")[0])) for one in exact if one} - {sides.ZARR}


def _compares_crates(request: Request) -> bool:
    return any(map(crates.is_crate, (request.base, request.head)))


def _compares_pythons(request: Request) -> bool:
    return any(map(pythons.is_python, (request.base, request.head)))


def prepare(request: Request) -> dict[str, Side]:
    """Build both sides; the errors are those of `builds.overlay` and `sides.make`."""
    made = {}
    kind = crates if _compares_crates(request) else pythons if _compares_pythons(request) else builds
    for spec in (request.base, request.head):
        kind.demand(spec)
    for name, spec, configured in (
        ("base", request.base, request.base_config),
        ("head", request.head, request.head_config),
    ):
        if _compares_crates(request):
            made[name] = crates.make(spec, configured)
        elif _compares_pythons(request):
            made[name] = pythons.make(spec, configured)
        else:
            made[name] = sides.make(spec, _overlay(spec, request), configured, _packages(request))
        made[name] = replace(made[name], environment={**request.environment, **made[name].environment})
        _log.info(f"{name}: {made[name].detail}")
    return made


def _overlay(spec: str, request: Request) -> Path | None:
    """Return a side's folder; both sides have one, or neither."""
    if spec == sides.AS_IT_IS and request.base != request.head:
        return builds.installed()
    return builds.overlay(spec, request.repository)


def run(request: Request, keep: Callable[[Verdict], None]) -> Verdict:
    """Carry a comparison out.

    Parameters
    ----------
    request
        What to compare.
    keep
        Given the verdict after every finding, so that an interruption loses nothing.

    Raises
    ------
    KeyboardInterrupt
        After the partial verdict was kept, marked incomplete.
    """
    readers, work = plan(request)
    made = prepare(request)  # what it refuses is told in one line
    _log.info(_duration([_budget(request, workload) for _, workload in itertools.product(readers, work)]))
    begin = time.monotonic()
    verdict = _empty(request, made, len(readers) * len(work))
    try:
        for reader, workload in itertools.product(readers, work):
            rules = Rules(
                comparisons=verdict.comparisons, seconds=_budget(request, workload), smallest=request.smallest
            )
            finding = empty(reader, workload)
            verdict.findings.append(finding)
            compare(finding, workload, made, rules, seed=request.seed)
            _log.info(f"{finding.name}: {finding.na or finding.error or finding.answer}")
            verdict.seconds = time.monotonic() - begin
            keep(verdict)
        verdict.complete = True
    finally:
        verdict.seconds = time.monotonic() - begin
        keep(verdict)
    return verdict


def _duration(budgets: Sequence[float]) -> str:
    """Say how long the comparisons can take together, before the first of them."""
    total = sum(budgets)
    said = f"{total:.0f} s" if total < _MINUTES else f"{math.ceil(total / 60)} min"
    comparisons = f"{len(budgets)} comparison{'' if len(budgets) == 1 else 's'}"
    return f"{comparisons}, at most {said} of pairs, beside the start of each"


def _budget(request: Request, workload: Workload) -> float:
    if request.seconds is not None:
        return request.seconds
    if request.quick:
        return _QUICK_SECONDS
    return cases.load().patterns[workload.pattern].verdict_seconds


def _empty(request: Request, made: Mapping[str, Side], comparisons: int) -> Verdict:
    base, head = (
        SideRecord(label=side.label, detail=side.detail, versions=dict(side.versions), bounded=side.bounded)
        for side in (made["base"], made["head"])
    )
    return Verdict(
        base=base,
        head=head,
        target=request.target.identity,
        subject=request.subject,
        command=redacted(shlex.join(["zcb", *sys.argv[1:]])),
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        smallest_effect=request.smallest,
        error_rate=ERROR_RATE,
        comparisons=comparisons,
        environment=let_in(request.environment),
    )


def keeper() -> tuple[Path, Callable[[Verdict], None]]:
    """Return a new file for a verdict, and the function that writes it there, whole or not at all."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    path = state_dir() / "verdicts" / f"{stamp}.json"

    def keep(verdict: Verdict) -> None:
        write_atomically(path, msgspec.json.encode(verdict) + b"\n")

    return path, keep
