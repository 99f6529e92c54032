"""One timeline per reader and workload under asv: kept for the site, its stages as metrics."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.asv.tracked import Cell, Key, LookedUp, environment_target, tell_asv, tracked
from harness.measure.recording import write_timeline
from harness.workload.create import create_workload

if TYPE_CHECKING:
    from harness.timeline.schedule import Analysis
    from harness.workload.model import Workload

_DIGITS = 6


class Read(NamedTuple):
    """A workload that is recorded."""

    pattern: str
    dataset: str
    parameters: Mapping[str, Any]
    pairs: int
    """Recorded and plain executions that show what recording costs."""


def _sum(*stages: str) -> Callable[["Analysis"], float | None]:
    """Return how to sum stages over all chunks; None where none of them is known."""

    def seconds(analysis: "Analysis") -> float | None:
        known = [analysis.stages[stage].seconds for stage in stages if stage in analysis.stages]
        return sum(known) if known else None

    return seconds


METRICS: dict[str, Callable[["Analysis"], float | None]] = {
    "times_optimum": lambda analysis: analysis.times_optimum,
    "first_byte_seconds": _sum("first_byte"),
    "transfer_seconds": _sum("transfer"),
    "decode_wait_seconds": _sum("decode_wait"),
    "decode_seconds": _sum("decode"),
    "copy_seconds": _sum("shard_copy", "copy_wait", "copy"),
}
"""What asv tracks of a timeline; lower is better for all."""


def run_pass(readers: Iterable[str], reads: Mapping[str, Read]) -> dict[Key, Cell]:
    """Record every reader on every workload, keep what is valid, and return ``(reader, read) -> cell``."""
    from harness.errors import TooLargeError, ZcbError
    from harness.machine.lifeline import die_with_parent
    from harness.targets.resolve import resolve
    from harness.workload.patterns import Parameters

    die_with_parent()
    tell_asv()
    readers = list(readers)
    cells: dict[Key, Cell] = {}
    try:
        target = resolve(environment_target())
        for name, read in reads.items():
            parameters = Parameters(**read.parameters)
            try:
                workload = create_workload(read.pattern, target, dataset=read.dataset, parameters=parameters)
            except TooLargeError as reason:
                cells |= {(reader, name): {"na": str(reason)} for reader in readers}
                continue
            for reader in readers:
                cells[reader, name] = _cell(reader, name, workload, read.pairs)
    except ZcbError as error:
        raise SystemExit(f"zcb: {error}") from error
    return cells


def _cell(reader: str, name: str, workload: "Workload", pairs: int) -> Cell:
    from harness.errors import MeasurementError, UnsupportedError
    from harness.measure.timelines import record_with_wire
    from harness.timeline.schedule import analyse

    try:
        timeline = record_with_wire(reader, workload, pairs=pairs)
    except UnsupportedError as reason:
        return {"na": str(reason)}
    except MeasurementError as error:
        return {"error": str(error)}
    if not timeline.valid.ok:
        return {"error": f"the recording is not valid: {'; '.join(timeline.valid.failures)}"}
    write_timeline(name, timeline)
    analysis = analyse(timeline)
    known = {metric: value for metric, of in METRICS.items() if (value := of(analysis)) is not None}
    return {metric: [round(value, _DIGITS)] for metric, value in known.items()}


class Recorded(LookedUp):
    """The stages of a timeline as asv's ``track_`` methods; one execution each, recorder included."""

    track_times_optimum = tracked(
        "times_optimum", "x optimal schedule", "Time of the recorded read over the optimal schedule of its requests."
    )
    track_first_byte_seconds = tracked(
        "first_byte_seconds", "seconds", "From GET to first byte, summed over all chunks."
    )
    track_transfer_seconds = tracked("transfer_seconds", "seconds", "From first to last byte, summed over all chunks.")
    track_decode_wait_seconds = tracked(
        "decode_wait_seconds", "seconds", "Waiting for decode after the last byte, summed over all chunks."
    )
    track_decode_seconds = tracked("decode_seconds", "seconds", "Decode, summed over all chunks.")
    track_copy_seconds = tracked("copy_seconds", "seconds", "Copies and waiting for them, summed over all chunks.")
