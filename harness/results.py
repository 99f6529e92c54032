"""Figures from pass records: metrics, medians with their intervals, ratios, and whether the machine held still.

The terminal's table and the page of readers both show what stands here.
"""

import functools
import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from harness.errors import BadUseError
from harness.readers import NETWORK_LIMIT
from harness.records import PassRecord, RowRecord
from harness.sample import Sample
from harness.workload import DEFAULT_IN_FLIGHT

CONTROLS = ("zarrs-planned", NETWORK_LIMIT)
"""Readers whose code does not depend on the commit under test, the better control first."""
DRIFT = 0.05
"""A control whose median moved by more, with intervals apart, says that the machine moved."""
COVERAGE = 0.95
"""What an interval covers at least, where there are enough samples."""
SURE = 0.85
"""An interval that covers less says nothing for sure: those of fewer than four samples."""

DEFAULT_METRIC = "seconds"
DEFAULT_BASELINE = "zarr-python+fsspec"

_PATTERNS = ("whole_array", "chunks_of_one_shard", "chunks_of_many_shards", "random_crops", "headline_3004")


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


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _gbits(size: int | None, seconds: float) -> float | None:
    return None if size is None else size * 8 / seconds / 1e9


def _header_share(sample: Sample, _: RowRecord) -> float | None:
    if sample.nic_rx_bytes is None or sample.fetched_bytes is None:
        return None
    return _ratio(sample.nic_rx_bytes - sample.fetched_bytes, sample.nic_rx_bytes)


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
            lambda s, _: _ratio(s.fetched_bytes, s.array_bytes),
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


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A median, and between which of the values it lies."""

    median: float
    low: float
    high: float
    coverage: float
    """Probability that an interval made this way holds the true median."""
    count: int

    @property
    def sure(self) -> bool:
        """Whether there were enough samples to conclude anything."""
        return self.coverage >= SURE

    def apart(self, other: "Interval") -> bool:
        """Whether the two intervals share no value."""
        return self.high < other.low or other.high < self.low


@functools.cache
def rank(count: int) -> tuple[int, float]:
    """Return how many of `count` sorted values to leave out at each end, and what the rest covers.

    The interval of a median by order statistics: no assumption about the distribution. As many values are left out as
    `COVERAGE` allows; fewer than six can never cover it, and then none is.
    """
    below, left_out, outside = 0.0, 0, 2.0 * 0.5**count
    for k in range(count // 2):
        below += math.comb(count, k) * 0.5**count
        if k and 1 - 2 * below < COVERAGE:
            break
        left_out, outside = k, 2 * below
    return left_out, max(0.0, 1 - outside)


def interval(known: Iterable[float | None]) -> Interval | None:
    """Return the median of the values that are known, with its interval; None when none is."""
    found = sorted(value for value in known if value is not None)
    if not found:
        return None
    left_out, coverage = rank(len(found))
    return Interval(
        median=statistics.median(found),
        low=found[left_out],
        high=found[-1 - left_out],
        coverage=coverage,
        count=len(found),
    )


def ratio(row: RowRecord, base: RowRecord, key: str) -> Interval | None:
    """Return a row's metric over that of a base row of the same pass, paired by round; None where it is unknown.

    The network limit's samples are not one per round: a time is compared with the limit around each sample, and other
    metrics by their medians, without an interval (count 0).
    """
    if NETWORK_LIMIT not in (row.reader, base.reader):
        # A reader that was given up has no samples at all, so that rounds never shift.
        return interval(_ratio(a, b) for a, b in zip(values(row, key), values(base, key), strict=False))
    if key == DEFAULT_METRIC and row.reader != base.reader:
        if row.reader == NETWORK_LIMIT:
            return interval(_ratio(1, slower) for slower in values(base, "times_slower"))
        return interval(values(row, "times_slower"))
    one, other = interval(values(row, key)), interval(values(base, key))
    quotient = _ratio(one.median, other.median) if one and other else None
    return None if quotient is None else Interval(median=quotient, low=quotient, high=quotient, coverage=0, count=0)


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A row and the pass that it belongs to."""

    run: PassRecord
    row: RowRecord

    @property
    def workload(self) -> tuple[str, str, int]:
        """The workload: pattern, its label, and requests in flight."""
        return self.run.pattern, self.row.label, self.row.in_flight


def place(record: PassRecord) -> str:
    """Return where a pass was measured: target, preset and machine; only there can passes be compared."""
    return " ".join(filter(None, (record.target, record.settings.get("ZCB_PRESET", ""), f"on {record.machine}")))


def variants(records: Sequence[PassRecord]) -> dict[str, list[PassRecord]]:
    """Return the passes of each version under test, oldest version first; the Python version tells equals apart."""
    pythons = {record.python.rpartition(".")[0] for record in records}
    grouped: dict[str, list[PassRecord]] = {}
    for record in records:
        name = record.variant
        if len(pythons) > 1:
            name += f" py{record.python.rpartition('.')[0]}"
        grouped.setdefault(name, []).append(record)
    return grouped


def cells(records: Iterable[PassRecord]) -> list[Cell]:
    """Return the rows of passes of one version, by workload and then reader, the newest pass of each pattern only."""
    newest: dict[tuple[object, ...], PassRecord] = {}
    for record in sorted(records, key=lambda record: record.started):
        newest[record.pattern, *sorted(record.settings.items())] = record
    found = [Cell(run=run, row=row) for run in newest.values() for row in run.rows]
    return sorted(found, key=lambda cell: _pattern_order(cell.row.label))


def readers(found: Iterable[Cell]) -> list[str]:
    """Return the readers in the order of their first row, the network limit last."""
    names = list(dict.fromkeys(cell.row.reader for cell in found))
    return sorted(names, key=lambda name: name == NETWORK_LIMIT)


def libraries(found: Iterable[Cell]) -> dict[str, dict[str, str]]:
    """Return the versions of the libraries that each reader used."""
    used: dict[str, dict[str, str]] = {}
    for cell in found:
        used.setdefault(cell.row.reader, {}).update(cell.row.versions)
    return used


def short_label(row: RowRecord) -> str:
    """Return a workload's name without its pattern: the dataset and what was asked for, e.g. ``small gap=1``."""
    name = row.label.partition(" ")[2] or row.dataset
    return name if row.in_flight == DEFAULT_IN_FLIGHT else f"{name} in-flight={row.in_flight}"


def detail(row: RowRecord) -> str:
    """Say how much a workload wants: chunks, shards, and the size of the final array."""
    chunks, shards = _counted(row.wanted_chunks, "chunk"), _counted(row.wanted_shards, "shard")
    size, unit = (row.array_bytes / 2**20, "MiB") if row.array_bytes >= 2**20 else (row.array_bytes / 2**10, "KiB")
    return f"{chunks}, {shards}, {number(size)} {unit}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _pattern_order(label: str) -> int:
    name = label.partition(" ")[0]
    return _PATTERNS.index(name) if name in _PATTERNS else len(_PATTERNS)


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """How far a control moved between two versions on one workload."""

    control: str
    label: str
    before: str
    after: str
    ratio: float
    """Of the medians, after over before."""
    drifted: bool


def moves(versions: dict[str, list[PassRecord]]) -> list[Move]:
    """Compare the controls' times of each version with those of the version before it, in one place.

    A control counts only where it used the same libraries in both, and has enough samples.
    """
    found: list[Move] = []
    names = list(versions)
    for before, after in itertools.pairwise(names):
        old = {(cell.row.reader, *cell.workload): cell.row for cell in cells(versions[before])}
        for cell in cells(versions[after]):
            base = old.get((cell.row.reader, *cell.workload))
            if cell.row.reader in CONTROLS and base is not None and base.versions == cell.row.versions:
                found += _move(cell.row, base, before, after)
    return found


def _move(row: RowRecord, base: RowRecord, before: str, after: str) -> Iterator[Move]:
    new, old = interval(values(row, DEFAULT_METRIC)), interval(values(base, DEFAULT_METRIC))
    if new is None or old is None or not (new.sure and old.sure):
        return
    quotient = new.median / old.median
    drifted = abs(math.log(quotient)) > math.log1p(DRIFT) and new.apart(old)
    yield Move(control=row.reader, label=row.label, before=before, after=after, ratio=quotient, drifted=drifted)


def drift_notices(found: Sequence[Move]) -> list[str]:
    """Say in one sentence per pair of versions whether the machine held still between them."""
    pairs: dict[tuple[str, str], list[Move]] = {}
    for move in found:
        pairs.setdefault((move.before, move.after), []).append(move)
    return [_notice(before, after, moved) for (before, after), moved in pairs.items() if any(m.drifted for m in moved)]


def _notice(before: str, after: str, found: Sequence[Move]) -> str:
    drifted = sorted(
        (m for m in found if m.drifted), key=lambda m: (CONTROLS.index(m.control), -abs(math.log(m.ratio)))
    )
    worst = drifted[0]
    more = (
        f", and {len(drifted) - 1} more of {len(found)} compared" if len(drifted) > 1 else f", of {len(found)} compared"
    )
    return (
        f"The machine drifted between {before} and {after}: control {worst.control} {100 * (worst.ratio - 1):+.0f} %"
        f" on {worst.label}{more}. Compare readers within a version, not versions."
    )


def number(value: float) -> str:
    """Return a value with three digits, a whole number as it is."""
    if value == round(value) or abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:#.3g}"


def times(value: float) -> str:
    """Return a ratio with two decimals, more digits where it is small and fewer where it is large."""
    if value < 0.0995:
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 9.995 else f"{value:#.3g}".rstrip(".")
