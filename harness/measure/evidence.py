"""Counters around an execution, and what they say of it: a sample that counts, or the reason why it does not."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import msgspec

from harness.errors import BadUseError, MeasurementError, StoreError
from harness.machine import network
from harness.machine.cpu import allowed_cores, capacity, throttled_periods
from harness.machine.load import OtherPrograms
from harness.results.sample import (
    FLAG_BELOW_LIMIT,
    FLAG_BUSY_MACHINE,
    FLAG_CPU_BOUND,
    FLAG_FAULTS,
    FLAG_IN_FLIGHT,
    FLAG_NEW_CONNECTIONS,
    FLAG_NO_MANIFEST,
    FLAG_OTHER_TRAFFIC,
    FLAG_THROTTLED,
    RequestCounts,
    Sample,
    Timed,
)
from harness.store.control import ERROR_FAULTS, LoggedRequest, StoreControl, StoreCounters
from harness.store.state import LOOPBACK, require_running
from harness.targets.lock import measurement_lock
from harness.targets.target import EMBEDDED, Target
from harness.workload.model import Workload

_MARK = "sample"
_WATCH = "watch"
_NOT_FOUND = "404"
_BUSY = 0.9
_BUSY_WITH_OTHERS = 0.1
_IN_FLIGHT_TOLERANCE = 0.2

_PACKET_HEADERS = 14 + 20 + 32  # Ethernet, IPv4, TCP with time stamps
_PACKET_PAYLOAD = 1500 - 52
_ANSWER_HEADERS = 1024  # more than any store sends before a body
_TLS_RECORD = 16384
_TLS_RECORD_OVERHEAD = 5 + 1 + 16  # header, type of the content, tag
_OTHER_SHARE = 0.02
_OTHER_BYTES = 16384  # less is a neighbour's question, not traffic


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted outside the reader's process during one execution."""

    store: StoreCounters | None
    """None where the target is not the embedded store."""
    nic: network.NicCounters
    """What the interfaces of the route received, summed."""
    idle_rx_bytes_per_second: float | None = None
    """What they received while no reader was at work."""
    other_cores: float | None = None
    """How many cores other programs kept busy, as `OtherPrograms.busy_cores` tells it."""
    throttled_periods: int | None = None
    """In how many periods a CPU quota stopped the reader; None without a quota."""


class Probe:
    """The counters around an execution: the embedded store's, the network interfaces' and the cores'.

    There is one at a time on an embedded store, whose counters cannot tell two measurements apart: another waits. Make
    it while no reader is at work: what the interfaces receive then is other traffic.

    Parameters
    ----------
    target
        Where is read from.
    """

    def __init__(self, target: Target) -> None:
        store = require_running() if target.name == EMBEDDED else None
        self._control = None if store is None else StoreControl(store.control)
        self._others = OtherPrograms(() if store is None else (store.pid,))
        self._lock = measurement_lock(target)
        self.round_number = 0
        """Whose draws of service times `begin` asks for: another round meets others."""
        interfaces = target.nic or network.interfaces_to(_host(target))
        self.network = network.observe(interfaces)
        self._nics = network.read_all(interfaces)
        self._throttled = throttled_periods()
        self._others.mark()

    @property
    def sees_connections(self) -> bool:
        """Whether new connections are counted, so that a sample tells whether its reader was warm."""
        return self._control is not None

    @contextlib.contextmanager
    def in_round(self, number: int) -> Iterator[None]:
        """Let executions meet another round's draws for a while."""
        measured, self.round_number = self.round_number, number
        try:
            yield
        finally:
            self.round_number = measured

    def begin(self, *, log: bool = False) -> None:
        """Start counting, and rewind the store's random stream: every execution of a round gets the same draws.

        Parameters
        ----------
        log
            Whether the store also keeps the requests one by one, for `requests`.
        """
        if self._control is not None:
            self._control.reset_draws(self.round_number)
            self._control.mark(_MARK, log=log)
        self._nics = network.read_all(self.network.interfaces)
        self._throttled = throttled_periods()
        self._others.mark()

    def end(self) -> Evidence:
        """Return what was counted since `begin`."""
        nic = network.grown(self._nics, network.read_all(self.network.interfaces))
        store = None if self._control is None else self._control.since(_MARK)
        return Evidence(
            store=store,
            nic=nic,
            idle_rx_bytes_per_second=self.network.idle_rx_bytes_per_second,
            other_cores=self._others.busy_cores(),
            throttled_periods=_growth(self._throttled, throttled_periods()),
        )

    def requests(self) -> list[LoggedRequest] | None:
        """Return the requests since ``begin(log=True)``, as the embedded store saw them; None where it is not read.

        Raises
        ------
        StoreError
            There were more than the store keeps, or some had begun before.
        """
        return None if self._control is None else self._control.requests(_MARK)

    def watch(self) -> None:
        """Start counting for `trouble`."""
        if self._control is not None:
            self._control.mark(_WATCH)

    def demand_no_faults(self) -> None:
        """Raise a BadUseError where the store was asked to inject faults: what it then serves is no benchmark."""
        if self._control is not None and self._control.faults():
            raise BadUseError("the store injects faults, as it was asked to: `zcb store fault off` ends that")

    def trouble(self) -> str:
        """Return what the store knows of a failure since `watch`, as the rest of a sentence; empty if nothing.

        Raises
        ------
        StoreError
            The embedded store is gone: nothing more can be measured.
        """
        if self._control is None:
            return ""
        require_running()
        try:
            return _trouble(self._control.since(_WATCH))
        except StoreError as error:
            return f" ({error})"

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
        self._lock.__exit__(kind, error, trace)


def _growth(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None else now - before


def _host(target: Target) -> str:
    return urlsplit(target.service_url).hostname or ""


def make_sample(
    workload: Workload, timed: Timed, evidence: Evidence, *, counts_alone: bool, with_faults: bool = False
) -> Sample:
    """Put what the reader and the counters say of one verified execution together.

    Parameters
    ----------
    workload
        What was executed.
    timed, evidence
        What the reader's process and the counters say of it.
    counts_alone
        Whether the reader's count stands where no store counts (`Reader.counts_alone`); else nothing was counted there.
    with_faults
        Whether a sample counts during which the store injected faults: it is flagged, and what the store counted
        stands for what the reader did, since a library hides what it sends again.

    Raises
    ------
    MeasurementError
        A request failed, the reader's count of its requests is not the store's, or fewer bytes came than were wanted.
    """
    store, request_counts = evidence.store, timed.request_counts
    if store is None:
        request_counts = request_counts if counts_alone else None
    else:
        if store.faults:
            request_counts = None
            _check_faults(store, with_faults)
        missing = store.errors_by_status.get(_NOT_FOUND, 0) if workload.truth.agreed_by else 0
        _check_no_errors(store, allowed=missing)
        if missing or workload.array.index_location != "end":
            request_counts = None  # what is an index, and what came of nothing, are not told alike by all
        if request_counts is not None:
            _check_agreement(request_counts, store)
    counted = request_counts or (None if store is None else _counted_by(store))
    if counted is not None:
        _check_bytes(workload, counted)
    other = other_rx_bytes(evidence, timed.seconds, counted, encrypted=workload.target.is_encrypted)
    sample = Sample(
        seconds=timed.seconds,
        array_bytes=timed.array_bytes,
        calls=timed.calls,
        nic_rx_bytes=evidence.nic.rx_bytes,
        nic_rx_packets=evidence.nic.rx_packets,
        other_rx_bytes=other,
        other_cores=evidence.other_cores,
        throttled_periods=evidence.throttled_periods,
        cpu_seconds=timed.cpu_seconds,
        busiest_thread_seconds=timed.busiest_thread_seconds,
        peak_rss_bytes=timed.peak_rss_bytes,
        windows=timed.windows,
        flags=_flags(workload, timed, store) + _traffic_flags(evidence.nic, other) + _load_flags(evidence),
        verified=True,
    )
    if counted is not None:
        sample.requests_source = "store" if request_counts is None else "reader"
        sample.requests = counted.requests
        sample.index_requests = counted.index_requests
        sample.head_requests = counted.head_requests
        sample.fetched_bytes = counted.fetched_bytes
        sample.retries = counted.retries
    if store is not None:
        sample.faults = store.faults
        sample.store_cpu_seconds = store.cpu_seconds
        sample.max_in_flight = store.max_in_flight
        sample.new_connections = store.connections_accepted
    return sample


def other_rx_bytes(evidence: Evidence, seconds: float, counted: RequestCounts | None, *, encrypted: bool) -> int | None:
    """Return how much of what was received is not the reader's, as far as that can be told; None on lo.

    Bodies and requests are counted exactly. What belongs to them beyond that is bounded from above, so that a clean
    sample comes out as 0: packet headers as if no packet had been larger than Ethernet's, 1 KiB before each body, and
    where the route is `encrypted` the overhead of TLS records. Where nobody counted bodies it is what the idle machine
    received in as many `seconds`.
    """
    received, packets = evidence.nic.rx_bytes, evidence.nic.rx_packets
    if received is None or packets is None:
        return None
    if counted is None:
        idle = evidence.idle_rx_bytes_per_second
        return None if idle is None else round(idle * seconds)
    content = counted.fetched_bytes + _ANSWER_HEADERS * counted.requests
    if encrypted:
        content += _TLS_RECORD_OVERHEAD * (content // _TLS_RECORD + 2 * counted.requests)
    headers = _PACKET_HEADERS * max(packets, content // _PACKET_PAYLOAD + counted.requests)
    return max(0, received - content - headers)


def _traffic_flags(nic: network.NicCounters, other: int | None) -> list[str]:
    heavy = other is not None and nic.rx_bytes is not None and other > max(_OTHER_BYTES, _OTHER_SHARE * nic.rx_bytes)
    return [FLAG_OTHER_TRAFFIC] if heavy else []


def _load_flags(evidence: Evidence) -> list[str]:
    others = evidence.other_cores
    flags = [FLAG_BUSY_MACHINE] if others is not None and others > _BUSY_WITH_OTHERS * allowed_cores() else []
    return [*flags, FLAG_THROTTLED] if evidence.throttled_periods else flags


def attach_limit(sample: Sample, before: Sample | None, after: Sample | None) -> None:
    """Give a sample the network limit around it: the mean of the limit's times `before` and `after`, and its counts."""
    if before is None or after is None:
        return
    sample.limit_seconds = (before.seconds + after.seconds) / 2
    sample.limit_requests, sample.limit_fetched_bytes = before.requests, before.fetched_bytes
    if sample.seconds < sample.limit_seconds:
        sample.flags.append(FLAG_BELOW_LIMIT)


def _check_faults(store: StoreCounters, allowed: bool) -> None:
    if not allowed:
        raise MeasurementError(
            f"the store injected {_counts(store.faults_by_name)}, as it was asked to: `zcb store fault off` ends that"
        )


def _check_no_errors(store: StoreCounters, *, allowed: int) -> None:
    """Refuse answers that are errors, but for so many `allowed` ones: objects that are not stored hold the fill value.

    Only an array without a manifest has such.
    """
    injected = sum(count for name, count in store.faults_by_name.items() if name in ERROR_FAULTS)
    if store.errors > injected + allowed:
        raise MeasurementError(_errors(store))


def _errors(store: StoreCounters) -> str:
    statuses = _counts(store.errors_by_status)
    return f"the store answered {store.errors} of {store.requests} requests with an error ({statuses})"


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{n} x {name}" for name, n in numbers.items())


def _trouble(store: StoreCounters) -> str:
    """Return what is out of order in the store's counters, for whoever reads why a reader failed."""
    known = []
    if store.errors:
        known.append(_errors(store))
    if store.in_flight:
        known.append(f"requests that the store has not answered: {store.in_flight}")
    if store.faults:
        known.append(f"faults injected: {_counts(store.faults_by_name)}")
    return f" ({'; '.join(known)})" if known else ""


def _check_agreement(request_counts: RequestCounts, store: StoreCounters) -> None:
    seen = _counted_by(store)
    for name in ("requests", "index_requests", "head_requests", "fetched_bytes"):
        claimed, counted = getattr(request_counts, name), getattr(seen, name)
        if claimed != counted:
            raise MeasurementError(
                f"the reader counts {claimed} {name.replace('_', ' ')}, the store {counted}: "
                "a retry, another client of this store, or a miscount"
            )


def _check_bytes(workload: Workload, counted: RequestCounts) -> None:
    """Refuse an array whose bytes cannot have come from where they were counted: from a cache, or another service."""
    if counted.fetched_bytes < workload.least_bytes:
        raise MeasurementError(
            f"{counted.fetched_bytes} bytes were counted, and the wanted chunks are stored as {workload.least_bytes}: "
            "the array came from elsewhere, in part or in whole"
        )


def _counted_by(store: StoreCounters) -> RequestCounts:
    return RequestCounts(
        requests=store.requests,
        index_requests=store.get_index,
        head_requests=store.head,
        retries=store.retries if store.faults else None,
        fetched_bytes=store.bytes_out,
    )


def _is_off_in_flight(workload: Workload, store: StoreCounters) -> bool:
    """Whether most requests in flight were too many, or too few though the reader sent enough that could wait together.

    The requests for data of reads that may be under way at once can all be in flight together; those for metadata and
    indexes come before them. Who fetches four shards by a request each is not blamed for having no hundred in flight.
    A store without service time answers a request before it takes the next: how many would wait cannot be told.
    """
    asked, most = workload.in_flight, store.max_in_flight
    if most > (1 + _IN_FLIGHT_TOLERANCE) * asked:
        return True
    under_way = min(workload.concurrent_reads, workload.executed_reads)
    at_once = store.get_data * under_way / workload.executed_reads
    answers_at_once = workload.target.profile == LOOPBACK
    return at_once >= asked and most < (1 - _IN_FLIGHT_TOLERANCE) * asked and not answers_at_once


def _flags(workload: Workload, timed: Timed, store: StoreCounters | None) -> list[str]:
    flags = [FLAG_NO_MANIFEST] if workload.truth.agreed_by else []
    if store is None:
        return flags
    if store.faults:
        flags.append(FLAG_FAULTS)
    if store.connections_accepted:
        flags.append(FLAG_NEW_CONNECTIONS)
    if _is_off_in_flight(workload, store):
        flags.append(FLAG_IN_FLIGHT)
    if timed.cpu_seconds + store.cpu_seconds > _BUSY * capacity() * timed.seconds:
        flags.append(FLAG_CPU_BOUND)
    return flags
