"""Figures of a row: the median of a metric with its interval, and its ratio to another row of the pass."""

import msgspec

from harness.results.intervals import Interval, of_processes, without_interval
from harness.results.metrics import DEFAULT_METRIC, METRICS, TIMES_SLOWER, quotient
from harness.results.records import RowRecord
from harness.results.sample import NETWORK_LIMIT, Sample
from harness.results.sessions import by_session
from harness.results.slower import slower


def figure(row: RowRecord, key: str) -> Interval | None:
    """Return a metric of a row, in the sample's unit; None where it is unknown."""
    if key == TIMES_SLOWER:
        return slower(row.samples, row.in_flight).interval
    return of_processes([_value(row, key, sample) for sample in of] for of in by_session(row.samples))


def shown(row: RowRecord, key: str) -> Interval | None:
    """Return a metric of a row in the unit that it is shown in; None where it is unknown."""
    known, factor = figure(row, key), METRICS[key].factor
    if known is None:
        return None
    ends = (known.median, known.low, known.high)
    median, low, high = (factor * end for end in ends)
    return msgspec.structs.replace(known, median=median, low=low, high=high)


def ratio(row: RowRecord, base: RowRecord, key: str) -> Interval | None:
    """Return a row's metric over that of a base row of the same pass, paired by round; None where it is unknown.

    The network limit's samples are not one per round: a time is compared with the limit around each sample, and other
    metrics by their medians, without an interval (count 0).
    """
    if NETWORK_LIMIT not in (row.reader, base.reader):
        return of_processes(_quotients(row, base, key))
    if key == DEFAULT_METRIC and row.reader != base.reader:
        if base.reader == NETWORK_LIMIT:
            return slower(row.samples, row.in_flight).interval
        return _inverse(slower(base.samples, base.in_flight).interval)
    one, other = figure(row, key), figure(base, key)
    over = quotient(one.median, other.median) if one and other else None
    return None if over is None else without_interval(over, 0)


def _quotients(row: RowRecord, base: RowRecord, key: str) -> list[list[float | None]]:
    """Return, of each process of `row`, its values over those of `base` in the same rounds."""
    of_base, found = _by_round(base), dict[int | None, list[float | None]]()
    for number, sample in _by_round(row).items():
        other = of_base.get(number)
        value = None if other is None else quotient(_value(row, key, sample), _value(base, key, other))
        found.setdefault(sample.session, []).append(value)
    return list(found.values())


def _by_round(row: RowRecord) -> dict[int, Sample]:
    """Return the samples by round; in older records those with the same place belong to the same one."""
    return {sample.round_number or place: sample for place, sample in enumerate(row.samples, 1)}


def _value(row: RowRecord, key: str, sample: Sample) -> float | None:
    return METRICS[key].of(sample, row.reads)


def _inverse(of: Interval | None) -> Interval | None:
    if of is None:
        return None
    if not of.sure:
        return without_interval(1 / of.median, of.count, of.processes)
    return msgspec.structs.replace(of, median=1 / of.median, low=1 / of.high, high=1 / of.low)
