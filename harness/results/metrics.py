"""Metrics: what is known of every sample."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from harness.errors import BadUseError
from harness.results.records import RowRecord
from harness.results.sample import Sample

DEFAULT_METRIC = "seconds"


@dataclass(frozen=True)
class Metric:
    """Something that is known of every sample."""

    key: str
    title: str
    group: str
    unit: str
    factor: float
    """From the value's own unit to `unit`."""
    better: Literal["lower", "higher", ""]
    """Which direction is the better one; empty where neither is."""
    note: str
    of: Callable[[Sample, RowRecord], float | None] = field(repr=False)
    """Take the value from a sample of a row; None where it is unknown."""


def quotient(part: float | None, whole: float | None) -> float | None:
    """Return `part` over `whole`; None where one is unknown or `whole` is 0."""
    return None if part is None or not whole else part / whole


def _gbits(size: int | None, seconds: float) -> float | None:
    return None if size is None else size * 8 / seconds / 1e9


def _header_share(sample: Sample, _: RowRecord) -> float | None:
    if sample.nic_rx_bytes is None or sample.fetched_bytes is None:
        return None
    return quotient(sample.nic_rx_bytes - sample.fetched_bytes, sample.nic_rx_bytes)


METRICS = {
    metric.key: metric
    for metric in (
        Metric(
            "seconds",
            "Time",
            "Time",
            "ms",
            1e3,
            "lower",
            "From the call to the final, newly allocated array, on a warm reader.",
            lambda s, _: s.seconds,
        ),
        Metric(
            "array_gbits",
            "Throughput of the final array",
            "Time",
            "Gbit/s",
            1,
            "higher",
            "Decoded bytes of the final array over the time.",
            lambda s, _: _gbits(s.array_bytes, s.seconds),
        ),
        Metric(
            "reads_per_second",
            "Reads per second",
            "Time",
            "1/s",
            1,
            "higher",
            "Selections that the workload reads, over the time: crops per second where it reads random crops.",
            lambda s, row: row.reads / s.seconds,
        ),
        Metric(
            "times_slower",
            "Times slower than the network limit",
            "Time",
            "x",
            1,
            "lower",
            "Time over the mean of the two network-limit samples around it, which fetch the same without decoding.",
            lambda s, _: s.times_slower,
        ),
        Metric(
            "requests", "Requests", "Requests", "", 1, "lower", "HTTP requests of all kinds.", lambda s, _: s.requests
        ),
        Metric(
            "index_requests",
            "Index requests",
            "Requests",
            "",
            1,
            "lower",
            "GETs of a shard index.",
            lambda s, _: s.index_requests,
        ),
        Metric(
            "head_requests",
            "HEAD requests",
            "Requests",
            "",
            1,
            "lower",
            "They carry no data.",
            lambda s, _: s.head_requests,
        ),
        Metric("retries", "Retries", "Requests", "", 1, "lower", "Requests sent again.", lambda s, _: s.retries),
        Metric(
            "calls",
            "Calls of the library",
            "Requests",
            "",
            1,
            "",
            "Calls of the reader's public API that the workload took.",
            lambda s, _: s.calls,
        ),
        Metric(
            "max_in_flight",
            "Most requests in flight",
            "Requests",
            "",
            1,
            "",
            "At one time, as the store saw them.",
            lambda s, _: s.max_in_flight,
        ),
        Metric(
            "new_connections",
            "New connections",
            "Requests",
            "",
            1,
            "lower",
            "Accepted by the store during the sample; a warm reader needs none.",
            lambda s, _: s.new_connections,
        ),
        Metric(
            "fetched_per_array_byte",
            "Fetched per array byte",
            "Network",
            "",
            1,
            "lower",
            "Bytes of HTTP bodies over bytes of the final array: compression lowers it, reading too much raises it.",
            lambda s, _: quotient(s.fetched_bytes, s.array_bytes),
        ),
        Metric(
            "fetched",
            "Fetched",
            "Network",
            "MiB",
            2**-20,
            "lower",
            "Bytes of HTTP bodies.",
            lambda s, _: s.fetched_bytes,
        ),
        Metric(
            "nic_gbits",
            "Raw throughput with headers",
            "Network",
            "Gbit/s",
            1,
            "",
            "Bytes that the network interface received over the time; unknown on the loopback interface.",
            lambda s, _: _gbits(s.nic_rx_bytes, s.seconds),
        ),
        Metric(
            "header_share",
            "Share of headers",
            "Network",
            "%",
            100,
            "lower",
            "What of the interface's bytes was no HTTP body; unknown on the loopback interface.",
            _header_share,
        ),
        Metric(
            "cpu_seconds",
            "CPU time of the reader",
            "Resources",
            "ms",
            1e3,
            "lower",
            "Of all threads of the reader's process.",
            lambda s, _: s.cpu_seconds,
        ),
        Metric(
            "store_cpu_seconds",
            "CPU time of the store",
            "Resources",
            "ms",
            1e3,
            "",
            "Of the embedded store, which shares the machine.",
            lambda s, _: s.store_cpu_seconds,
        ),
        Metric(
            "peak_rss",
            "Peak memory",
            "Resources",
            "MiB",
            2**-20,
            "lower",
            "Largest resident set of the reader's process during the sample.",
            lambda s, _: s.peak_rss_bytes,
        ),
    )
}


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


def values(row: RowRecord, key: str) -> list[float | None]:
    """Return a metric of each sample of a row, in the sample's unit; None where it is unknown."""
    return [METRICS[key].of(sample, row) for sample in row.samples]
