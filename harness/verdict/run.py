"""One comparison from what a person asked for to a kept verdict."""

import datetime
import itertools
import logging
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import BadUseError, MeasurementError
from harness.machine.redact import redacted
from harness.paths import state_dir, write_atomically
from harness.readers import all_readers, reader_class
from harness.targets.target import Target
from harness.verdict import builds, crates, sides
from harness.verdict.judge import Rules, compare, empty
from harness.verdict.model import SideRecord, Verdict
from harness.verdict.sides import Side
from harness.verdict.statistics import ERROR_RATE, SMALLEST_EFFECT
from harness.workload import model as workloads
from harness.workload.create import create_workload
from harness.workload.model import Workload
from harness.workload.patterns import PATTERNS, Parameters

_log = logging.getLogger(__name__)


READERS = ("zarr-python+obstore", "zarr-python+fsspec")
"""What is compared unless other readers are named: zarr-python over its two stores."""
QUICK_READERS = READERS[:1]

Piece = tuple[str, Mapping[str, Any]]
"""Dataset and what the pattern is asked for."""

WORK: dict[str, tuple[Piece, ...]] = {
    "chunks_of_one_shard": (("small", {"gap": 0}), ("small", {"gap": 15}), ("large", {"gap": 1})),
    "chunks_of_many_shards": (("small", {"shards": 16}), ("small", {"shards": 64})),
    "whole_array": (("large", {}),),
}
"""The workloads of each pattern: on both sides of zarr-python's merge limit, few shards and many."""

QUICK_WORK: dict[str, tuple[Piece, ...]] = {
    "chunks_of_one_shard": (("small", {"gap": 0}), ("small", {"gap": 15})),
    "chunks_of_many_shards": (("small", {"shards": 16}),),
}

_SECONDS = 180.0
_SECONDS_OF_A_WHOLE_ARRAY = 300.0
_QUICK_SECONDS = 15.0


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
    quick: bool = False
    seconds: float | None = None
    """Budget of each reader and workload; None takes the pattern's."""
    smallest: float = SMALLEST_EFFECT
    in_flight: int = workloads.DEFAULT_IN_FLIGHT
    seed: int = 0


def plan(request: Request) -> tuple[list[str], list[Workload]]:
    """Return the readers and workloads of a comparison; reads manifests and indexes at the target.

    Raises
    ------
    BadUseError
        An unknown reader or pattern, or one that is not part of a comparison.
    StoreError
        The target cannot be reached.
    """
    readers = _readers(request)
    work = QUICK_WORK if request.quick else WORK
    patterns = list(request.patterns or work)
    for name in patterns:
        if name not in PATTERNS:
            raise BadUseError(f"unknown pattern {name!r}: choose from {', '.join(WORK)}")
        if name not in WORK:
            raise BadUseError(f"pattern {name!r} is not part of comparisons: choose from {', '.join(WORK)}")
    return readers, [
        create_workload(
            name,
            request.target,
            dataset=dataset,
            parameters=Parameters(**asked),
            in_flight=request.in_flight,
        )
        for name in patterns
        for dataset, asked in (work.get(name) or WORK[name])
    ]


def _readers(request: Request) -> list[str]:
    of_crates = _compares_crates(request)
    usual = crates.READERS if of_crates else QUICK_READERS if request.quick else READERS
    readers = list(request.readers or usual)
    for name in readers:
        if name not in all_readers():
            reader_class(name)  # says what there is
        if of_crates and name not in crates.READERS:
            raise BadUseError(f"{name} does not read with the zarrs crate: choose from {', '.join(crates.READERS)}")
    return readers


def _compares_crates(request: Request) -> bool:
    return any(map(crates.is_crate, (request.base, request.head)))


def prepare(request: Request) -> dict[str, Side]:
    """Build both sides; the errors are those of `builds.overlay` and `sides.make`."""
    made = {}
    for name, spec, configured in (
        ("base", request.base, request.base_config),
        ("head", request.head, request.head_config),
    ):
        if _compares_crates(request):
            made[name] = crates.make(spec, configured)
        else:
            made[name] = sides.make(spec, builds.overlay(spec, request.repository), configured)
        _log.info(f"{name}: {made[name].detail}")
    return made


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
    made = prepare(request)
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
    if all(finding.error for finding in verdict.findings):
        raise MeasurementError(f"nothing could be measured: {verdict.findings[0].error}")
    return verdict


def _budget(request: Request, workload: Workload) -> float:
    if request.seconds is not None:
        return request.seconds
    if request.quick:
        return _QUICK_SECONDS
    return _SECONDS_OF_A_WHOLE_ARRAY if workload.pattern == "whole_array" else _SECONDS


def _empty(request: Request, made: Mapping[str, Side], comparisons: int) -> Verdict:
    base, head = (
        SideRecord(label=side.label, detail=side.detail, versions=dict(side.versions))
        for side in (made["base"], made["head"])
    )
    return Verdict(
        base=base,
        head=head,
        target=request.target.identity,
        command=redacted(shlex.join(["zcb", *sys.argv[1:]])),
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        smallest_effect=request.smallest,
        error_rate=ERROR_RATE,
        comparisons=comparisons,
    )


def keeper(folder: Path | None = None) -> tuple[Path, Callable[[Verdict], None]]:
    """Return a new file for a verdict, and the function that writes it there, whole or not at all."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    path = (folder or state_dir() / "verdicts") / f"{stamp}.json"

    def keep(verdict: Verdict) -> None:
        write_atomically(path, msgspec.json.encode(verdict) + b"\n")

    return path, keep
