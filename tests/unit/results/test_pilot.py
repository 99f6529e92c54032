"""How many samples a figure takes: what simulated log-normal times then show."""

import math

import numpy as np
import pytest

from harness.results.intervals import FEWEST
from harness.results.pilot import WITHIN, needed, needed_of, sentence
from tests.support import passes

TAIL = math.log(150 / 30) / 2.326
"""Spread of a first byte with the median 30 ms and the 99th percentile 150 ms."""


@pytest.mark.parametrize("spread", [0.1, TAIL])
def test_as_many_samples_bring_the_median_that_near(spread):
    draw = np.random.default_rng(1)
    count = needed([np.exp(draw.normal(0, spread, 20_000)).tolist()]).count
    medians = np.median(np.exp(draw.normal(0, spread, (1000, count))), axis=1)
    assert np.mean(np.abs(np.log(medians)) <= math.log1p(WITHIN)) == pytest.approx(0.95, abs=0.025)
    fewer = np.median(np.exp(draw.normal(0, spread, (1000, max(1, count // 4)))), axis=1)
    assert np.mean(np.abs(np.log(fewer)) <= math.log1p(WITHIN)) < 0.85


def test_a_pilot_of_fifteen_tells_the_order_of_magnitude():
    draw = np.random.default_rng(2)
    told = [needed([np.exp(draw.normal(0, TAIL, 15)).tolist()]).count for _ in range(400)]
    true = needed([np.exp(draw.normal(0, TAIL, 20_000)).tolist()]).count
    assert np.median(told) == pytest.approx(true, rel=0.2)
    assert true / 5 < np.quantile(told, 0.05)
    assert np.quantile(told, 0.95) < 3 * true


def test_one_slow_sample_changes_little():
    draw = np.random.default_rng(3)
    values = np.exp(draw.normal(0, 0.05, 15)).tolist()
    calm, disturbed = needed([values]).count, needed([[*values[:-1], 5.0]]).count
    assert disturbed < 2 * calm


def test_of_several_processes_their_medians_are_judged():
    processes = [[base, base * 1.5, base / 1.5] for base in (1.0, 1.01, 0.99, 1.02)]
    found = needed(processes)
    assert (found.unit, found.judged) == ("processes", 4)
    assert found.count < needed([[value for one in processes for value in one]]).count
    assert found.words == f"+-5 % takes about {found.count} processes (from the spread of 4)"


def test_too_few_tell_nothing_and_equal_ones_take_as_many_as_an_interval():
    assert needed([]) is None
    assert needed([[1.0, 2.0]]) is None
    assert needed([[1.0], [2.0]]) is None
    assert needed([[1.0] * 3]).count == FEWEST


def test_the_reader_that_spreads_the_most_is_told():
    still = [passes.sample(1.0, 1.0, 8)] * 5
    wild = [passes.sample(v, 1.0, 8) for v in (0.5, 1.0, 2.0, 0.7, 1.4)]
    count = needed_of(wild).count
    assert count > FEWEST
    words = f"wild spreads the most: +-5 % takes about {count} samples (from the spread of 5)"
    assert sentence({"still": still, "wild": wild, "none": []}) == words
    assert sentence({"none": []}) is None
