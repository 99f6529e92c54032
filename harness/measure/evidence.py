"""Counters around an execution, and what they say of it: a sample that counts, or the reason why it does not."""

from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import msgspec

from harness import network
from harness.errors import MeasurementError
from harness.readers.base import cores
from harness.sample import (
    FLAG_BELOW_LIMIT,
    FLAG_CPU_BOUND,
    FLAG_IN_FLIGHT,
    FLAG_NEW_CONNECTIONS,
    FLAG_NO_MANIFEST,
    Sample,
    Tally,
    Timed,
)
from harness.store.control import LoggedRequest, StoreControl, StoreCounters
from harness.store.state import require_running
from harness.targets import EMBEDDED, Target
from harness.workload import Workload

_MARK = "sample"
_BUSY = 0.9
_IN_FLIGHT_TOLERANCE = 0.2


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted outside the reader's process during one execution."""

    store: StoreCounters | None
    """None where the target is not the embedded store."""
    nic: network.NicCounters


class Probe:
    """The counters around an execution: the embedded store's and those of the target's network interfaces."""

    def __init__(self, target: Target) -> None:
        self._interfaces = target.nic or (network.interface_to(_host(target)),)
        self._control = StoreControl(require_running().control) if target.name == EMBEDDED else None
        self._nics = network.read_all(self._interfaces)

    def begin(self) -> None:
        """Start counting, and rewind the store's random stream: every execution gets the same draws."""
        if self._control is not None:
            self._control.reset_draws()
            self._control.mark(_MARK)
        self._nics = network.read_all(self._interfaces)

    def end(self) -> Evidence:
        """Return what was counted since `begin`."""
        nic = network.grown(self._nics, network.read_all(self._interfaces))
        return Evidence(store=None if self._control is None else self._control.since(_MARK), nic=nic)

    def logged(self, execute: Callable[[], object]) -> list[LoggedRequest] | None:
        """Return the requests that the embedded store saw while `execute` ran; None where it is not the target."""
        if self._control is None:
            return None
        self._control.mark(_MARK, log=True)
        execute()
        return self._control.requests(_MARK)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._control is not None:
            self._control.close()


def _host(target: Target) -> str:
    return urlsplit(target.service_url).hostname or ""


def make_sample(workload: Workload, timed: Timed, evidence: Evidence) -> Sample:
    """Put what the reader and the counters say of one verified execution together.

    Raises
    ------
    MeasurementError
        A request failed, or the reader's count of its requests is not the store's.
    """
    store, tally = evidence.store, timed.tally
    if store is not None:
        _check_no_errors(store)
        if tally is not None:
            _check_agreement(tally, store)
    counted = tally or (None if store is None else _tally_of(store))
    sample = Sample(
        seconds=timed.seconds,
        array_bytes=timed.array_bytes,
        calls=timed.calls,
        nic_rx_bytes=evidence.nic.rx_bytes,
        nic_rx_packets=evidence.nic.rx_packets,
        cpu_seconds=timed.cpu_seconds,
        peak_rss_bytes=timed.peak_rss_bytes,
        flags=_flags(workload, timed, store),
        verified=True,
    )
    if counted is not None:
        sample.requests_source = "store" if tally is None else "reader"
        sample.requests = counted.requests
        sample.index_requests = counted.index_requests
        sample.head_requests = counted.head_requests
        sample.fetched_bytes = counted.fetched_bytes
        sample.retries = None if tally is None else tally.retries
    if store is not None:
        sample.store_cpu_seconds = store.cpu_seconds
        sample.max_in_flight = store.max_in_flight
        sample.new_connections = store.connections_accepted
    return sample


def stand_against(sample: Sample, before: Sample | None, after: Sample | None) -> None:
    """Give a sample the network limit around it: the mean of the limit's samples `before` and `after`."""
    if before is None or after is None:
        return
    sample.limit_seconds = (before.seconds + after.seconds) / 2
    if sample.seconds < sample.limit_seconds:
        sample.flags.append(FLAG_BELOW_LIMIT)


def _check_no_errors(store: StoreCounters) -> None:
    if store.errors:
        statuses = ", ".join(f"{n} x {status}" for status, n in store.errors_by_status.items())
        raise MeasurementError(
            f"the store answered {store.errors} of {store.requests} requests with an error ({statuses})"
        )


def _check_agreement(tally: Tally, store: StoreCounters) -> None:
    seen = _tally_of(store)
    for name in ("requests", "index_requests", "head_requests", "fetched_bytes"):
        claimed, counted = getattr(tally, name), getattr(seen, name)
        if claimed != counted:
            raise MeasurementError(
                f"the reader counts {claimed} {name.replace('_', ' ')}, the store {counted}: "
                "a retry, another client of this store, or a miscount"
            )


def _tally_of(store: StoreCounters) -> Tally:
    return Tally(
        requests=store.requests,
        index_requests=store.get_index,
        head_requests=store.head,
        fetched_bytes=store.bytes_out,
    )


def _chunks_at_once(workload: Workload) -> float:
    """Return how many chunks can be wanted at one time: those of as many reads as may be under way at once."""
    under_way = min(workload.concurrent_reads, len(workload.reads))
    return workload.wanted_chunks * under_way / len(workload.reads)


def _flags(workload: Workload, timed: Timed, store: StoreCounters | None) -> list[str]:
    flags = [FLAG_NO_MANIFEST] if workload.truth.agreed_by else []
    if store is None:
        return flags
    if store.connections_accepted:
        flags.append(FLAG_NEW_CONNECTIONS)
    off = abs(store.max_in_flight - workload.in_flight) > _IN_FLIGHT_TOLERANCE * workload.in_flight
    if off and _chunks_at_once(workload) >= workload.in_flight:
        flags.append(FLAG_IN_FLIGHT)
    if timed.cpu_seconds + store.cpu_seconds > _BUSY * cores() * timed.seconds:
        flags.append(FLAG_CPU_BOUND)
    return flags
