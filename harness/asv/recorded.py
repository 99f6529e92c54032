"""One timeline per reader and workload under asv: kept for the site, its stages as metrics."""

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from harness.asv.tracked import Cell, Key, LookedUp, chosen, environment_target, is_quick, show_progress_in_asv, tracked
from harness.errors import ZcbError
from harness.machine import log
from harness.workload import cases
from harness.workload.cases import Case

if TYPE_CHECKING:
    from harness.timeline.schedule import Analysis
    from harness.workload.model import Workload

_log = logging.getLogger(__name__)

_DIGITS = 6


def _sum(*stages: str) -> Callable[["Analysis"], float | None]:
    """Return how to sum stages over all chunks; None where none of them is known."""

    def seconds(analysis: "Analysis") -> float | None:
        known = [analysis.stages[stage].seconds for stage in stages if stage in analysis.stages]
        return sum(known) if known else None

    return seconds


class StageMetric(NamedTuple):
    """What asv tracks of a timeline; lower is better."""

    key: str
    unit: str
    meaning: str
    of: Callable[["Analysis"], float | None]


METRICS = (
    StageMetric(
        "times_optimum",
        "x optimal schedule",
        "Time of the recorded read over the optimal schedule of its requests.",
        lambda analysis: analysis.times_optimum,
    ),
    StageMetric("first_byte_seconds", "seconds", "From GET to first byte, summed over all chunks.", _sum("first_byte")),
    StageMetric("transfer_seconds", "seconds", "From first to last byte, summed over all chunks.", _sum("transfer")),
    StageMetric(
        "decode_wait_seconds",
        "seconds",
        "Waiting for decode after the last byte, summed over all chunks.",
        _sum("decode_wait"),
    ),
    StageMetric("decode_seconds", "seconds", "Decode, summed over all chunks.", _sum("decode")),
    StageMetric(
        "copy_seconds",
        "seconds",
        "Copies and waiting for them, summed over all chunks.",
        _sum("shard_copy", "copy_wait", "copy"),
    ),
)
"""What the class `Recorded` tracks."""


def reads() -> dict[str, Case]:
    """Return the cases that are recorded, by name; a malformed file ends asv's process with a line."""
    try:
        recorded = {case.timeline: case for case in cases.load().all if case.timeline is not None}
        return {how.name: case for how, case in recorded.items() if how.quick or not is_quick()}
    except ZcbError as error:
        raise SystemExit(f"zcb: {error}") from error


def run_pass(readers: Iterable[str], reads: Mapping[str, Case]) -> dict[Key, Cell]:
    """Record every reader on every case, keep what is valid, and return ``(reader, name) -> cell``."""
    from harness.errors import TooLargeError
    from harness.machine.lifeline import die_with_parent
    from harness.targets.resolve import resolve
    from harness.workload.create import create_workload

    die_with_parent()
    show_progress_in_asv()
    readers = chosen(readers)
    cells: dict[Key, Cell] = {}
    try:
        target = resolve(environment_target())
        for name, case in reads.items():
            assert case.timeline is not None  # noqa: S101 - `reads` returns no others
            how = case.timeline
            pairs, recordings = (min(how.pairs, 1), 1) if is_quick() else (how.pairs, how.recordings)
            try:
                workload = create_workload(case.pattern, target, dataset=case.dataset, parameters=case.parameters)
            except TooLargeError as reason:
                cells |= {(reader, name): {"na": str(reason)} for reader in readers}
                continue
            for number, reader in enumerate(readers, 1):
                cells[reader, name] = _cell(reader, name, workload, pairs, recordings)
                done = f"timeline of {name}: {reader}"
                log.report(_log, done, step=f"timeline of {name}", share=number / len(readers))
    except ZcbError as error:
        raise SystemExit(f"zcb: {error}") from error
    return cells


def _cell(reader: str, name: str, workload: "Workload", pairs: int, recordings: int) -> Cell:
    """Return the metrics of every recording: each is of a fresh process, as the samples of other classes are."""
    from harness.errors import MeasurementError, UnsupportedError
    from harness.measure.recording import write_timeline
    from harness.measure.timelines import record_several, record_with_wire
    from harness.timeline.schedule import analyse

    try:
        record = functools.partial(record_with_wire, reader, workload)
        taken = record_several(lambda n: record(pairs=n), recordings=recordings, pairs=pairs)
    except UnsupportedError as reason:
        return {"na": str(reason)}
    except MeasurementError as error:
        return {"error": str(error)}
    timeline = taken[0]
    if not timeline.valid.ok:
        return {"error": f"the recording is not valid: {'; '.join(timeline.valid.failures)}"}
    write_timeline(name, timeline)
    analyses = [analyse(one) for one in taken]
    found = {metric.key: [metric.of(analysis) for analysis in analyses] for metric in METRICS}
    return {key: [round(v, _DIGITS) for v in of if v is not None] for key, of in found.items() if None not in of}


class Recorded(LookedUp):
    """The stages of a timeline as asv's ``track_`` methods; one execution each, recorder included."""


for _metric in METRICS:
    setattr(Recorded, f"track_{_metric.key}", tracked(_metric.key, _metric.unit, _metric.meaning))
