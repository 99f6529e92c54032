"""asv's side of the conductor: one pass per pattern, commit and environment, whose metrics asv then looks up.

A benchmark class inherits `Tracked`, names its grid in `params`, and writes its own `setup_cache` (asv keys that by
the line it stands on, so an inherited one would be shared by all classes).
"""

import datetime
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ZcbError
from harness.readers import benchmarked, derived, under_test, without_layers
from harness.results.metrics import METRICS
from harness.workload import cases
from harness.workload.cases import Case, Grid, Use

# asv starts a process per combination of parameters, most of which only look a list up: what is slow to import
# is imported where a pass needs it.
if TYPE_CHECKING:
    from harness.measure.conductor import Plan, Row
    from harness.targets.target import Target
    from harness.workload.model import Workload

_log = logging.getLogger(__name__)

PASS_SECONDS = 600
"""asv's timeout for `setup_cache`: seconds without a line of progress."""

STEPS_VARIABLE = "ZCB_STEPS"
"""Environment variable with the file that passes append to how far they are; `zcb bench` follows it."""


def is_quick(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether the quick grid is asked for (``ZCB_GRID=quick``): the part of the cases that a quick `make bench` has."""
    return variables.get("ZCB_GRID") == "quick"


def readers(*, quick: bool) -> list[str]:
    """Return the readers in every pattern: in the full grid also layers above others, tuned readers, and crates' main.

    They are n/a where nothing was searched for, or built.
    """
    return without_layers() if quick else [*benchmarked(), *derived()]


READERS = readers(quick=is_quick())
"""The readers in every pattern of the grid that is asked for."""

PLAIN_READERS = under_test()
"""The readers that asv also times by itself: those that the commit under test reads with, from store to array."""

Key = tuple[str | int, ...]
Cell = dict[str, Any]
"""Of one reader and one workload: ``{"na": reason}``, ``{"error": reason}``, or metric -> list of values."""


def environment_plan(target: "Target") -> "Plan":
    """Return how much the environment variables say to measure at a target: `plan_of`."""
    return plan_of(os.environ, cold=_is_cold(target))


def plan_of(variables: Mapping[str, str], *, cold: bool = False) -> "Plan":
    """Return how much to measure: ``ZCB_SAMPLES`` rounds per workload, at most ``ZCB_WORKLOAD_SECONDS`` each.

    They are spread over ``ZCB_SESSIONS`` fresh processes of each reader, seven unless there are fewer rounds. With the
    quick grid there is one process, a reader takes turns for ``ZCB_READER_SECONDS`` of each workload, and it warms up
    only where its connections are cold. On anything but the embedded store a timed execution reads objects that no
    other one of its round reads, unless ``ZCB_HOT`` is 1. Environment variables, because asv's own ``--quick`` does not
    reach `setup_cache`.
    """
    from harness.errors import BadUseError
    from harness.measure.conductor import DEFAULT_SAMPLES, SESSIONS, Plan

    quick = is_quick(variables)
    try:
        samples = _count(variables, "ZCB_SAMPLES", DEFAULT_SAMPLES)
        return Plan(
            samples=samples,
            sessions=_count(variables, "ZCB_SESSIONS", 1 if quick else min(SESSIONS, samples)),
            budget_seconds=_seconds(variables, "ZCB_WORKLOAD_SECONDS"),
            reader_seconds=_seconds(variables, "ZCB_READER_SECONDS"),
            trials=2 if quick else Plan.trials,
            always_discards=not quick,
            cold=cold,
            readers_between_limits=3 if quick else 1,
        )
    except ValueError as error:
        raise BadUseError(
            f"ZCB_SAMPLES, ZCB_SESSIONS, ZCB_WORKLOAD_SECONDS and ZCB_READER_SECONDS must be numbers above 0: {error}"
        ) from error


def _is_cold(target: "Target") -> bool:
    return target.profile is None and os.environ.get("ZCB_HOT") != "1"


def _count(variables: Mapping[str, str], name: str, default: int) -> int:
    given = int(variables.get(name) or default)
    if given < 1:
        raise ValueError(f"{name}={given}")
    return given


def _seconds(variables: Mapping[str, str], name: str) -> float | None:
    given = variables.get(name)
    return float(given) if given else None


def environment_target() -> str:
    """Return the target that asv measures: ``ZCB_TARGET``, by which the configuration keeps results apart."""
    return os.environ.get("ZCB_TARGET", "embedded")


def chosen(readers: Iterable[str]) -> list[str]:
    """Return those of the readers that ``ZCB_READERS`` names, by commas; all where it is not set."""
    named = os.environ.get("ZCB_READERS")
    return [reader for reader in readers if not named or reader in named.split(",")]


def grid(pattern: str, use: Use | None = None, *, only: str | None = None, without: str | None = None) -> Grid:
    """Return the cases of a pattern as parameters; a malformed file ends asv's process with a line.

    Parameters
    ----------
    pattern
        Name of the read pattern.
    use
        What the cases are used for; None is what is tracked, on the grid that is asked for.
    only, without
        The only data set, and one that is left out.
    """
    try:
        return cases.grid(pattern, use or ("quick" if is_quick() else "asv"), only=only, without=without)
    except ZcbError as error:
        raise SystemExit(f"zcb: {error}") from error


def run_pass(name: str, readers: Iterable[str], grid: Mapping[cases.Key, Case]) -> dict[Key, Cell]:
    """Measure `readers` on every case of `grid` and return ``(reader, *key) -> cell``.

    Parameters
    ----------
    name
        The benchmark class's, in words: ``chunks_of_one_shard`` for ``ChunksOfOneShard``.
    readers
        The readers that take turns, those that ``ZCB_READERS`` names.
    grid
        asv's parameter values after the reader -> what is read.
    """
    from harness.errors import TooLargeError
    from harness.machine.lifeline import die_with_parent
    from harness.measure.conductor import Conductor
    from harness.measure.evidence import Probe
    from harness.measure.recording import demand_installed, write_pass
    from harness.results.sample import NETWORK_LIMIT
    from harness.targets.resolve import resolve
    from harness.workload.create import create_workload

    die_with_parent()
    show_progress_in_asv()
    readers = chosen(readers)
    cells: dict[Key, Cell] = {}
    work: dict[Key, Workload] = {}
    started = datetime.datetime.now().astimezone()
    try:
        target = resolve(environment_target())
        plan = environment_plan(target)
        with Probe(target) as probe:
            probe.demand_no_faults()
        for key, case in grid.items():
            try:
                work[key] = create_workload(case.pattern, target, dataset=case.dataset, parameters=case.parameters)
            except TooLargeError as reason:
                _log.info(f"{case.pattern} {case.dataset}: n/a: {reason}")
                cells |= {(reader, *key): {"na": str(reason)} for reader in (*readers, NETWORK_LIMIT)}
        with Conductor(readers, plan=plan) as conductor:
            measured = conductor.measure_all(list(work.values()))
        _tell_how_long_is_enough(measured)
        every = [row for rows in measured for row in rows]
        demand_installed(every)
        write_pass(_class_name(name), target.identity, plan, every, started)
    except ZcbError as error:
        raise SystemExit(f"zcb: {error}") from error
    for key, rows in zip(work, measured, strict=True):
        limit_holds = next(row for row in rows if row.reader == NETWORK_LIMIT).error is None
        cells |= {(row.reader, *key): cell(row, limit_holds=limit_holds) for row in rows}
    return cells


def _tell_how_long_is_enough(measured: Iterable[Sequence["Row"]]) -> None:
    """Say of each workload how many samples its figures take."""
    from harness.results.pilot import sentence

    for rows in measured:
        said = sentence({row.reader: row.samples for row in rows})
        if said is not None:
            _log.info(f"{rows[0].workload.label}: {said}")


def _class_name(name: str) -> str:
    """Return the benchmark class that is so called in words: ``ChunksOfOneShard`` for ``chunks_of_one_shard``."""
    return "".join(word.capitalize() for word in name.split("_"))


def cell(row: "Row", *, limit_holds: bool = True) -> Cell:
    """Return a row's metrics as lists, a value for each session: its median; a metric unknown in any is left out.

    Samples of one process are not independent of each other, and asv takes its samples for that.
    """
    from harness.results.sessions import by_session, exceeds, summary

    if row.na is not None:
        return {"na": row.na}
    if row.error is not None:
        return {"error": row.error}
    limit_holds = limit_holds and not exceeds(row.samples, row.workload.in_flight)
    found: Cell = {}
    for metric in METRICS.values():
        if metric.asv is None or (metric.needs_limit and not limit_holds):
            continue
        values = [summary(metric.key, of, row.workload.executed_reads) for of in by_session(row.samples)]
        if None not in values:
            found[metric.key] = [round(value, metric.asv.digits) for value in values if value is not None]
    return found


def tracked(metric: str, unit: str, meaning: str, unknown: str | None = None) -> Callable[..., Any]:
    """Return a ``track_`` method that looks `metric` up, with the setup that says n/a where it is unknown."""

    def setup(cells: dict[Key, Cell], *key: str | int) -> None:
        if metric not in cells[key]:
            raise NotImplementedError(unknown or f"{metric} is unknown here")

    def track(_: object, cells: dict[Key, Cell], *key: str | int) -> dict[str, Any] | float:
        return _samples(cells, key, metric)

    track.__doc__ = meaning
    track.unit, track.setup = unit, setup  # type: ignore[attr-defined]
    return track


class LookedUp:
    """A pass whose values asv looks up."""

    version = "1"
    timeout = 60
    param_names: list[str]
    params: list[list[Any]]

    def setup(self, cells: dict[Key, Cell], *key: str | int) -> None:
        """Say n/a for what a reader cannot do, and fail with the reason where the measurement failed."""
        if key not in cells:
            raise NotImplementedError("not part of this pattern's grid")
        if "na" in cells[key]:
            raise NotImplementedError(cells[key]["na"])
        if "error" in cells[key]:
            raise SystemExit(f"{key[0]}: {cells[key]['error']}")


class Tracked(LookedUp):
    """The metrics of a pass, as asv's ``track_`` methods; each looks one list of samples up."""


for _metric in METRICS.values():
    if _metric.asv is not None:
        _text = f"{_metric.title}: {_metric.meaning}"
        _track = tracked(_metric.key, _metric.asv.unit, _text, _metric.asv.unknown)
        setattr(Tracked, f"track_{_metric.key}", _track)


def _samples(cells: dict[Key, Cell], key: Key, metric: str) -> dict[str, Any] | float:
    """Return one list of samples in asv's form, once per pass; a single sample as a number.

    asv prints an error beside a list, ±0 where it holds one sample. It can ask for the same list again (its rounds);
    serving it twice would double the samples and narrow the interval falsely. The cache's directory is the working
    directory, so a marker file there lasts as long as the pass.
    """
    values: list[float] = cells[key][metric]
    if len(values) == 1:
        return values[0]
    marker = Path("-".join(["served", metric, *(str(part).replace("/", "_") for part in key)]))
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return {"samples": [], "number": 1}
    return {"samples": values, "number": 1}


def show_progress_in_asv() -> None:
    """Show progress where asv sees it: its timeout is one of silence."""
    from harness.machine.log import show_progress, steps_to

    followed = os.environ.get(STEPS_VARIABLE)
    if followed:
        steps_to(Path(followed))
    show_progress(lambda line: print(f"[zcb] {line}", flush=True))  # noqa: T201
