"""The network limit with twice its connections and threads, and with bodies thrown away, in shuffled rounds."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from harness.machine.cpu import cores
from harness.measure.floor import service_of
from harness.measure.rounds import Point, Rounds, take
from harness.readers.settings import TOKIO_THREADS
from harness.results import plateau, sweeps
from harness.results.plateau import BODIES, Held, Plateau
from harness.workload.model import Workload


def measure(workload: Workload, rounds: Rounds, environment: Mapping[str, str] = MappingProxyType({})) -> Plateau:
    """Let the limit fetch a workload in four shapes: as asked and doubled, bodies kept and thrown away.

    Parameters
    ----------
    workload
        What is fetched, with the requests in flight that are doubled.
    rounds, environment
        As `harness.measure.rounds.take` has them.

    Raises
    ------
    BadUseError, StoreError
        As `take` does.
    """
    started = sweeps.now()
    points = [_point(reader, workload, times) for reader in BODIES for times in (1, 2)]
    return Plateau(
        schema=plateau.SCHEMA,
        started=started,
        label=workload.label,
        target=workload.target.identity,
        digest=workload.digest,
        link_gbit_s=service.link_gbit_s if (service := service_of(workload)) else None,
        cores=cores(),
        sessions=rounds.sessions,
        shapes=[
            Held(
                reader=one.point.reader,
                in_flight=one.point.workload.in_flight,
                threads=int(one.point.environment[TOKIO_THREADS.name]),
                variant=one.variant,
                samples=one.samples,
                na=one.na,
                error=one.error,
            )
            for one in take(points, rounds, environment, label=workload.label)
        ],
    )


def _point(reader: str, workload: Workload, times: int) -> Point:
    return Point(
        reader=reader,
        workload=msgspec.structs.replace(workload, in_flight=times * workload.in_flight),
        environment={TOKIO_THREADS.name: str(times * cores())},
    )
