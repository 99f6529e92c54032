"""What executions of a read took of each resource, where it was measured: what projections rest on.

A cell is what was measured of a row, a reader on a workload, at one place and number of requests in flight. A place is
a link, a store's service time and cores.
"""

import math
import statistics
from collections.abc import Iterable, Sequence

import msgspec

from harness.errors import BadUseError
from harness.results.intervals import of_processes
from harness.results.sample import Sample
from harness.results.sessions import by_session
from harness.store.state import Profile


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where is read; None is no limit."""

    link_gbit_s: float | None = None
    connection_mb_s: float | None = None
    first_byte_ms: float = 0.0
    """Its median."""
    first_byte_p99_ms: float | None = None
    """None where it is constant."""
    requests_per_second: float | None = None
    """Of one prefix."""
    cores: float
    """Those that the reader may use."""
    shared_cores: float | None = None
    """Those that it shares with the embedded store; None where no store of ours takes any."""
    encrypted: bool = False
    """Whether requests go by TLS."""


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What one execution took of each resource: medians."""

    requests: float
    trips: tuple[float, ...]
    """Requests of each kind that wait for those before them, in the order in which they are sent: for sizes, indexes,
    data."""
    fetched_bytes: float
    cpu_seconds: float
    busiest_thread_seconds: float | None
    """None where nobody told."""
    store_cpu_seconds: float
    max_in_flight: float | None
    new_connections: float = 0.0
    """Those that the store accepted meanwhile; 0 where nobody told."""


class MeasuredCell(msgspec.Struct, frozen=True, kw_only=True):
    """A row's executions at one place."""

    reader: str
    label: str
    """The workload's."""
    in_flight: int
    reads: int
    concurrent_reads: int
    array_bytes: int
    place: Place
    costs: Costs
    seconds: float
    """Their median."""
    low: float
    high: float
    """Ends of its interval; of fewer samples than one takes the lowest and the highest."""

    @property
    def row(self) -> tuple[str, str]:
        """What is projected by itself."""
        return self.reader, self.label

    @property
    def turns(self) -> int:
        """How often reads that cannot be under way together follow each other."""
        return math.ceil(self.reads / self.concurrent_reads)


def measured_cell(
    samples: Sequence[Sample],
    *,
    place: Place,
    reader: str,
    label: str,
    in_flight: int,
    reads: int,
    concurrent_reads: int,
    array_bytes: int,
) -> MeasuredCell | None:
    """Return what samples of a row say of its costs; None where requests or bytes were not counted."""
    requests, nbytes = _median(s.requests for s in samples), _median(s.fetched_bytes for s in samples)
    found = of_processes([sample.seconds for sample in group] for group in by_session(samples))
    cpu_seconds = _median(sample.cpu_seconds for sample in samples)
    if found is None or requests is None or nbytes is None or not cpu_seconds or found.median <= 0:
        return None
    heads = _median(sample.head_requests for sample in samples) or 0.0
    indexes = _median(sample.index_requests for sample in samples) or 0.0
    seconds = [sample.seconds for sample in samples]
    return MeasuredCell(
        reader=reader,
        label=label,
        in_flight=in_flight,
        reads=reads,
        concurrent_reads=concurrent_reads,
        array_bytes=array_bytes,
        place=place,
        costs=Costs(
            requests=requests,
            trips=tuple(filter(None, (heads, indexes, max(0.0, requests - heads - indexes)))),
            fetched_bytes=nbytes,
            cpu_seconds=cpu_seconds,
            busiest_thread_seconds=_median(sample.busiest_thread_seconds for sample in samples),
            store_cpu_seconds=_median(sample.store_cpu_seconds for sample in samples) or 0.0,
            max_in_flight=_median(sample.max_in_flight for sample in samples),
            new_connections=_median(sample.new_connections for sample in samples) or 0.0,
        ),
        seconds=found.median,
        low=found.low if found.sure else min(seconds),
        high=found.high if found.sure else max(seconds),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(statistics.median(known)) if known else None


def place_of(
    service: Profile | None, cores: float, *, shared_cores: float | None = None, encrypted: bool = False
) -> Place:
    """Return the place that the embedded store imitated.

    Parameters
    ----------
    service
        The store's; None elsewhere.
    cores
        Those that the reader might run on.
    shared_cores
        Those that it shared with the store; None where the same.
    encrypted
        Whether requests went by TLS.

    Raises
    ------
    BadUseError
        It was not the embedded store.
    """
    if service is None:
        raise BadUseError(
            "only what was read from the embedded store can be projected, whose service time is known and recorded: "
            "measure anew with `zcb read --json`"
        )
    return Place(
        link_gbit_s=service.link_gbit_s,
        connection_mb_s=service.connection_mb_s,
        first_byte_ms=service.first_byte_ms or 0.0,
        first_byte_p99_ms=service.first_byte_p99_ms,
        requests_per_second=service.requests_per_second_per_prefix,
        cores=cores,
        shared_cores=shared_cores or cores,
        encrypted=encrypted,
    )


def by_row(cells: Iterable[MeasuredCell]) -> list[list[MeasuredCell]]:
    """Return the cells of each row."""
    rows: dict[tuple[str, str], list[MeasuredCell]] = {}
    for cell in cells:
        rows.setdefault(cell.row, []).append(cell)
    return list(rows.values())
