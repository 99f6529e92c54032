"""The sweep over gaps: merged against separate ranges, with the embedded store's service time changed in between."""

import itertools
import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from harness.errors import BadUseError
from harness.machine.cpu import cores
from harness.machine.interrupts import Interrupted
from harness.measure.rounds import Measured, Point, Rounds, take
from harness.readers import all_readers, reader_class
from harness.readers.settings import MERGE_BYTES, MERGE_GAP, Value
from harness.results import gaps, sweeps
from harness.results.gaps import GapCell, GapPair, GapSweep
from harness.store import lifecycle
from harness.targets.resolve import found_again
from harness.targets.target import EMBEDDED
from harness.workload.create import create_workload
from harness.workload.model import Workload
from harness.workload.patterns import pattern

_log = logging.getLogger(__name__)

GAPS = (0, 1, 3, 7, 15, 20)
"""Stored chunks between two wanted ones, unless others are asked for."""
FIRST_BYTES_MS = (5, 20, 80)
CONNECTIONS_MB_S = (30, 90)

_ALL, _NONE = 1 << 40, -1
"""Gaps up to which chunks share a request: all of them do, none does."""


def with_merge_setting() -> list[str]:
    """Return the readers that let a user set up to which gap chunks share a request."""
    return [name for name, reader in all_readers().items() if any(one.part == MERGE_GAP for one in reader.settings)]


def check(readers: Sequence[str], workload: Workload) -> None:
    """Raise a BadUseError where the sweep cannot be made of a workload or a reader."""
    if workload.target.name != EMBEDDED:
        raise BadUseError(
            f"only the embedded store's service time can be set, and this workload reads {workload.target.url}"
        )
    if "gap" not in pattern(workload.pattern).accepts:
        raise BadUseError(f"pattern {workload.pattern!r} has no gap: take chunks_of_one_shard or chunks_of_many_shards")
    for name in readers:
        if name not in with_merge_setting():
            raise BadUseError(f"{name} has no setting for the gap: choose from {', '.join(with_merge_setting())}")


def sweep(
    readers: Sequence[str],
    workload: Workload,
    gaps_in_chunks: Sequence[int],
    first_bytes_ms: Sequence[int],
    connections_mb_s: Sequence[int],
    rounds: Rounds,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> GapSweep:
    """Measure merged against separate ranges, by gap, first byte and rate of a connection.

    The store is started anew for each service time, at the same address, and at the end as it was. With one service
    time all gaps of a reader, merged and separate, take turns in shuffled rounds.

    Parameters
    ----------
    readers, workload
        Which `check` has let pass.
    gaps_in_chunks
        Stored chunks between two wanted ones.
    first_bytes_ms, connections_mb_s
        Service times, each with each.
    rounds, environment
        As `harness.measure.rounds.take` has them.

    Raises
    ------
    BadUseError
        A gap that does not fit into a shard.
    StoreError
        The embedded store is not running, or does not start anew.
    Interrupted
        Ctrl-C came when a service time of a reader was measured; it has what was finished.
    """
    swept = GapSweep(
        schema=gaps.SCHEMA,
        started=sweeps.now(),
        label=_with_gap_unsaid(workload).label,
        target=workload.target.identity,
        cores=cores(),
        in_flight=workload.in_flight,
        sessions=rounds.sessions,
        versions={},
        cells=[],
    )
    works = [_with_gap(workload, gap) for gap in sorted(set(gaps_in_chunks))]
    with lifecycle.restarting() as again:
        for first_byte, rate in itertools.product(sorted(set(first_bytes_ms)), sorted(set(connections_mb_s))):
            here = _served(again, works, first_byte, rate)
            for reader in readers:
                label = f"{reader}, {first_byte} ms, {rate} MB/s"
                try:
                    measured = take(list(_points(reader, here)), rounds, environment, label=label)
                except Interrupted as stop:
                    raise (Interrupted(swept) if swept.cells else KeyboardInterrupt) from stop
                swept.versions.update(item for one in measured for item in one.versions.items())
                pairs = [_pair(*of) for of in itertools.batched(measured, 2)]
                swept.cells.append(GapCell(reader=reader, first_byte_ms=first_byte, connection_mb_s=rate, pairs=pairs))
    return swept


def _with_gap(workload: Workload, gap: int) -> Workload:
    return create_workload(
        workload.pattern,
        workload.target,
        dataset=workload.array.key,
        parameters=msgspec.structs.replace(workload.parameters, gap=gap),
        in_flight=workload.in_flight,
    )


def _with_gap_unsaid(workload: Workload) -> Workload:
    return msgspec.structs.replace(workload, parameters=msgspec.structs.replace(workload.parameters, gap=None))


def _served(again: Callable[..., object], works: Sequence[Workload], first_byte: int, rate: int) -> list[Workload]:
    """Start the store anew with a service time and return the workloads as they are read from it."""
    _log.info(f"the store is started anew: first byte after {first_byte} ms, {rate} MB/s per connection")
    again(first_byte_ms=first_byte, connection_mb_s=rate)
    return [msgspec.structs.replace(work, target=found_again(work.target)) for work in works]


def _points(reader: str, works: Sequence[Workload]) -> Iterator[Point]:
    """Yield two points for each gap: merged, and separate."""
    for work in works:
        for most in (_ALL, _NONE):
            yield Point(reader=reader, workload=work, chosen=_merging(reader, most))


def _merging(reader: str, most: int) -> dict[str, Value]:
    """Return the settings that let chunks share a request over gaps of so many bytes, however large it becomes."""
    values = {MERGE_GAP: most, MERGE_BYTES: _ALL}
    return {one.name: values[one.part] for one in reader_class(reader).settings if one.part in values}


def _pair(merged: Measured, separate: Measured) -> GapPair:
    work = merged.point.workload
    return GapPair(
        gap=work.parameters.gap or 0,
        gap_bytes=round(statistics.median(work.gap_bytes)) if work.gap_bytes else 0,
        merged=merged.samples,
        separate=separate.samples,
        na=merged.na or separate.na,
        error=merged.error or separate.error,
    )
