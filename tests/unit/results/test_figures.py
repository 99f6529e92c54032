"""Figures of a row: processes as the unit, rounds as the pairs."""

import statistics

import numpy as np
import pytest

from harness.results import figures, intervals
from harness.results.sample import NETWORK_LIMIT
from harness.results.sessions import by_session, summary
from tests.support import passes

LABEL = "whole_array small"


def row(reader, seconds_of_sessions, limit=0.5):
    """Return a row: seconds of each session's rounds; None is a round that the reader sat out."""
    samples, number = [], 0
    for session, rounds in enumerate(seconds_of_sessions, 1):
        for seconds in rounds:
            number += 1
            if seconds is not None:
                samples.append(passes.sample(seconds, limit, 8, session=session, round_number=number))
    return passes.row(reader, LABEL, samples)


def test_a_figure_is_the_median_of_the_processes_medians():
    known = figures.figure(row("a", [[1, 9, 2], [3, 3, 30], [5, 4, 60]]), "seconds")
    assert (known.median, known.count, known.processes, known.sure) == (3, 3, 3, False)
    one = figures.figure(row("a", [[1, 9, 2, 3, 4, 5]]), "seconds")
    assert (one.median, one.count, one.processes, one.sure) == (3.5, 6, 1, True)
    older = passes.row("a", LABEL, [passes.sample(1.0, 0.5, 8)] * 6)
    assert figures.figure(older, "seconds").processes == 1


def test_an_interval_of_processes_covers_where_one_of_samples_does_not():
    draw, hits, naive = np.random.default_rng(3), 0, 0
    for _ in range(300):
        noise = draw.normal(0, 0.03, (7, 1)) + draw.normal(0, 0.01, (7, 5))
        values = np.exp(noise)
        known = intervals.of_processes(values.tolist())
        hits += known.low <= 1 <= known.high
        alone = intervals.interval(values.ravel().tolist())
        naive += alone.low <= 1 <= alone.high
    assert hits / 300 >= intervals.COVERAGE - 0.035
    assert naive / 300 < 0.8


def test_readers_are_paired_by_round_whoever_sat_one_out():
    slow = row("slow", [[4, None, None], [10, None, None]])
    quick = row("quick", [[2, 1, 1], [5, 1, 1]])
    assert figures.ratio(slow, quick, "seconds").median == 2  # by place it would be 4 over 2 and 10 over 1
    assert figures.ratio(quick, slow, "seconds").median == 0.5
    old = passes.row("old", LABEL, [passes.sample(v, 1, 8) for v in (2, 4)])
    other = passes.row("other", LABEL, [passes.sample(v, 1, 8) for v in (1, 1)])
    assert figures.ratio(old, other, "seconds").median == 3


def test_against_the_limit_a_time_is_times_slower_and_the_limits_its_inverse():
    reader = row("r", [[1.0, 1.1, 0.9, 1.0, 1.05, 0.95]])
    limit = passes.row(NETWORK_LIMIT, LABEL, [passes.sample(0.5, None, 8)] * 7)
    forth, back = figures.ratio(reader, limit, "seconds"), figures.ratio(limit, reader, "seconds")
    assert forth == figures.figure(reader, "times_slower")
    assert (back.median, back.low, back.high) == pytest.approx((1 / forth.median, 1 / forth.high, 1 / forth.low))


def test_what_is_shown_has_the_metrics_unit():
    reader = row("r", [[1.0, 1.1, 0.9, 1.0, 1.05, 0.95]])
    own, shown = figures.figure(reader, "seconds"), figures.shown(reader, "seconds")
    assert (shown.median, shown.low, shown.high) == (1e3 * own.median, 1e3 * own.low, 1e3 * own.high)


def test_a_sessions_summary_is_its_median_and_of_the_limit_a_ratio_of_medians():
    samples = row("r", [[1, 2, 6], [3, 4, 5]]).samples
    first, second = by_session(samples)
    assert [summary("seconds", one, 1) for one in (first, second)] == [2, 4]
    first[0].limit_seconds = 4.0
    assert summary("times_slower", first, 1) == 2 / statistics.median([4, 0.5, 0.5])
    first[0].requests = None
    assert summary("requests", first, 1) is None
