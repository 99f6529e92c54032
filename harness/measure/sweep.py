"""The sweep over requests in flight: each reader with each number of them, in shuffled rounds."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from harness.machine.cpu import cores, machine_cores
from harness.machine.interrupts import Interrupted
from harness.measure.floor import service_of
from harness.measure.rounds import Measured, Point, Rounds, take
from harness.results import sweeps
from harness.results.sweeps import InFlightSweep, SweptReader, SweptValue
from harness.workload.model import Workload

VALUES = (1, 2, 5, 10, 20, 50, 100, 200, 400, 800)
"""Requests in flight that are asked for unless others are."""


def in_flight(
    readers: Sequence[str],
    workload: Workload,
    values: Sequence[int],
    rounds: Rounds,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> InFlightSweep:
    """Measure readers with several numbers of requests in flight.

    The values of one reader take turns with each other, reader after reader: all processes of all readers at the same
    time would not fit into memory.

    Parameters
    ----------
    readers
        Maybe the network limit among them.
    workload
        What is read; its own number of requests in flight plays no part.
    values
        Requests in flight to ask for.
    rounds, environment
        As `harness.measure.rounds.take` has them.

    Raises
    ------
    BadUseError, StoreError
        As `take` does.
    Interrupted
        Ctrl-C came when readers were measured already; it has those, and what was measured of the next.
    """
    swept = InFlightSweep(
        schema=sweeps.SCHEMA,
        started=sweeps.now(),
        label=workload.label,
        target=workload.target.identity,
        digest=workload.digest,
        service=service_of(workload),
        cores=cores(),
        machine_cores=machine_cores(),
        reads=workload.executed_reads,
        concurrent_reads=workload.concurrent_reads,
        array_bytes=workload.array_bytes,
        sessions=rounds.sessions,
        readers=[],
    )
    ascending = sorted(set(values))
    for reader in readers:
        points = [
            Point(reader=reader, workload=msgspec.structs.replace(workload, in_flight=value)) for value in ascending
        ]
        try:
            swept.readers.append(_of_reader(reader, take(points, rounds, environment, label=reader)))
        except Interrupted as stop:
            if any(one.samples for one in stop.found):
                swept.readers.append(_of_reader(reader, stop.found))
            raise (Interrupted(swept) if swept.readers else KeyboardInterrupt) from stop
    return swept


def _of_reader(reader: str, measured: Sequence[Measured]) -> SweptReader:
    return SweptReader(
        reader=reader,
        versions={name: version for one in measured for name, version in one.versions.items()},
        values=[
            SweptValue(
                in_flight=one.point.workload.in_flight,
                variant=one.variant,
                samples=one.samples,
                na=one.na,
                error=one.error,
            )
            for one in measured
        ],
    )
