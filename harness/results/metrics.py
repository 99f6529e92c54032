"""Metrics: everything that is known of every sample, each listed once.

asv's ``track_`` methods, ``zcb table``, ``zcb read``, the page "Readers" and the tables in docs/ and README.md are made
from `METRICS`: a new metric is one record more here, and ``make docs``. asv starts a process per combination of
parameters that imports this module, so it imports nothing slow.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from harness.errors import BadUseError
from harness.results.sample import Sample

DEFAULT_METRIC = "seconds"
TIMES_SLOWER = "times_slower"
"""The metric whose figure is a ratio of medians: see `harness.results.slower`."""

Direction = Literal["lower", "higher", ""]
"""Which direction is the better one; empty where neither is."""

_GIB = 2**30
_LOOPBACK = "the loopback interface counts both directions"


@dataclass(frozen=True, kw_only=True)
class AsvTrack:
    """How asv tracks a metric: as ``track_`` and the metric's key, in the value's own unit."""

    unit: str
    digits: int = 3
    """Decimals that are kept; asv prints every digit of a unit that it does not know."""
    unknown: str | None = None
    """Why the metric can be unknown, where there is one reason."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Something that is known of every sample."""

    key: str
    title: str
    group: Literal["Time", "Requests", "Network", "Resources"]
    unit: str = ""
    """The unit that it is shown in."""
    factor: float = 1
    """From the value's own unit to `unit`."""
    better: Direction
    meaning: str
    of: Callable[[Sample, int], float | None] = field(repr=False)
    """Take the value from a sample and the number of selections that its workload reads; None where it is unknown."""
    needs_limit: bool = False
    """Whether it says nothing where the network limit failed."""
    asv: AsvTrack | None = None
    """None where asv does not track it."""


def quotient(part: float | None, whole: float | None) -> float | None:
    """Return `part` over `whole`; None where one is unknown or `whole` is 0."""
    return None if part is None or not whole else part / whole


def gbits(size: int | None, seconds: float) -> float | None:
    """Return bytes over seconds in Gbit/s; None where they are unknown."""
    return None if size is None else size * 8 / seconds / 1e9


def _header_share(sample: Sample, _: int) -> float | None:
    if sample.nic_rx_bytes is None or sample.fetched_bytes is None:
        return None
    return quotient(sample.nic_rx_bytes - sample.fetched_bytes, sample.nic_rx_bytes)


_ALL = (
    Metric(
        key="seconds",
        title="Time",
        group="Time",
        unit="ms",
        factor=1e3,
        better="lower",
        meaning="From the call to the final, newly allocated array, on a warm reader.",
        of=lambda s, _: s.seconds,
        asv=AsvTrack(unit="seconds", digits=6),
    ),
    Metric(
        key="seconds_per_gib",
        title="Time per GiB",
        group="Time",
        unit="s/GiB",
        better="lower",
        meaning="Time per GiB of the final array.",
        of=lambda s, _: s.seconds / (s.array_bytes / _GIB),
    ),
    Metric(
        key="array_gbits",
        title="Throughput of the final array",
        group="Time",
        unit="Gbit/s",
        better="higher",
        meaning="Decoded bytes of the final array over the time.",
        of=lambda s, _: gbits(s.array_bytes, s.seconds),
    ),
    Metric(
        key="reads_per_second",
        title="Reads per second",
        group="Time",
        unit="1/s",
        better="higher",
        meaning="Selections that the workload reads, over the time: crops per second where it reads random crops.",
        of=lambda s, reads: reads / s.seconds,
    ),
    Metric(
        key=TIMES_SLOWER,
        title="Times slower than the network limit",
        group="Time",
        unit="x",
        better="lower",
        meaning="Median time over the median of the network limit in the same rounds, which fetches the same without "
        "decoding: at 1 it is as fast as the best of the limit's plans. None where more requests were in flight than "
        "asked for.",
        of=lambda s, _: s.times_slower,
        needs_limit=True,
        asv=AsvTrack(unit="x network limit"),
    ),
    Metric(
        key="requests",
        title="Requests",
        group="Requests",
        better="lower",
        meaning="HTTP requests of all kinds, those for shard indexes included.",
        of=lambda s, _: s.requests,
        asv=AsvTrack(unit="requests"),
    ),
    Metric(
        key="index_requests",
        title="Index requests",
        group="Requests",
        better="lower",
        meaning="GETs of a shard index.",
        of=lambda s, _: s.index_requests,
    ),
    Metric(
        key="head_requests",
        title="HEAD requests",
        group="Requests",
        better="lower",
        meaning="They carry no data.",
        of=lambda s, _: s.head_requests,
    ),
    Metric(
        key="retries",
        title="Retries",
        group="Requests",
        better="lower",
        meaning="Requests sent again.",
        of=lambda s, _: s.retries,
    ),
    Metric(
        key="calls",
        title="Calls of the library",
        group="Requests",
        better="",
        meaning="Calls of the reader's public API that the workload took.",
        of=lambda s, _: s.calls,
    ),
    Metric(
        key="max_in_flight",
        title="Most requests in flight",
        group="Requests",
        better="",
        meaning="At one time, as the store saw them.",
        of=lambda s, _: s.max_in_flight,
    ),
    Metric(
        key="new_connections",
        title="New connections",
        group="Requests",
        better="lower",
        meaning="Accepted by the store during the sample; a warm reader needs none.",
        of=lambda s, _: s.new_connections,
    ),
    Metric(
        key="fetched_per_array_byte",
        title="Fetched per array byte",
        group="Network",
        better="lower",
        meaning="Bytes of HTTP bodies over bytes of the final array: compression lowers it, over-read raises it.",
        of=lambda s, _: quotient(s.fetched_bytes, s.array_bytes),
        asv=AsvTrack(unit="bytes/byte"),
    ),
    Metric(
        key="fetched",
        title="Fetched",
        group="Network",
        unit="MiB",
        factor=2**-20,
        better="lower",
        meaning="Bytes of HTTP bodies.",
        of=lambda s, _: s.fetched_bytes,
    ),
    Metric(
        key="nic_per_array_byte",
        title="Received per array byte",
        group="Network",
        better="lower",
        meaning="Bytes that the network interface received, headers included, over bytes of the final array; "
        "unknown on the loopback interface.",
        of=lambda s, _: quotient(s.nic_rx_bytes, s.array_bytes),
        asv=AsvTrack(unit="bytes/byte", unknown=_LOOPBACK),
    ),
    Metric(
        key="nic_gbits",
        title="Raw throughput with headers",
        group="Network",
        unit="Gbit/s",
        better="",
        meaning="Bytes that the network interface received over the time; unknown on the loopback interface.",
        of=lambda s, _: gbits(s.nic_rx_bytes, s.seconds),
    ),
    Metric(
        key="header_share",
        title="Share of headers",
        group="Network",
        unit="%",
        factor=100,
        better="lower",
        meaning="What of the interface's bytes was no HTTP body; unknown on the loopback interface.",
        of=_header_share,
    ),
    Metric(
        key="cpu_seconds",
        title="CPU time of the reader",
        group="Resources",
        unit="ms",
        factor=1e3,
        better="lower",
        meaning="Of all threads of the reader's process.",
        of=lambda s, _: s.cpu_seconds,
        asv=AsvTrack(unit="seconds", digits=6),
    ),
    Metric(
        key="store_cpu_seconds",
        title="CPU time of the store",
        group="Resources",
        unit="ms",
        factor=1e3,
        better="",
        meaning="Of the embedded store, which shares the machine.",
        of=lambda s, _: s.store_cpu_seconds,
    ),
    Metric(
        key="peak_rss",
        title="Peak memory",
        group="Resources",
        unit="MiB",
        factor=2**-20,
        better="lower",
        meaning="Largest resident set of the reader's process during the sample.",
        of=lambda s, _: s.peak_rss_bytes,
        asv=AsvTrack(unit="bytes"),
    ),
)

METRICS = {metric.key: metric for metric in _ALL}
"""Every metric by its key, in the order in which choices are offered."""


def metric(key: str) -> Metric:
    """Return a metric by its key.

    Raises
    ------
    BadUseError
        There is no such metric.
    """
    if key not in METRICS:
        raise BadUseError(f"unknown metric {key!r}: choose from {', '.join(METRICS)}")
    return METRICS[key]
