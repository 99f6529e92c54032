"""The bootstrap interval of a ratio of medians: what it covers in simulations, and what it refuses to say."""

import math
import statistics

import numpy as np
import pytest

from harness.results.bootstrap import ratio_of_medians
from harness.results.intervals import COVERAGE, FEWEST

TRUE = 1.5
SIMULATIONS = 120
SLACK = 3 * math.sqrt(COVERAGE * (1 - COVERAGE) / SIMULATIONS)
"""Three standard errors of a simulated coverage."""


def simulated(processes, rounds, *, between, within, shared=0.0, seed=0):
    """Return so many data sets of processes: log-normal times over limits, with draws that a round shares."""
    draw = np.random.default_rng(seed)
    for _ in range(SIMULATIONS):
        noise = draw.normal(0, between, (2, processes, 1)) + draw.normal(0, shared, (processes, rounds))
        noise = noise + draw.normal(0, within, (2, processes, rounds))
        above, below = TRUE * np.exp(noise[0]), np.exp(noise[1])
        yield [list(zip(*one, strict=True)) for one in zip(above.tolist(), below.tolist(), strict=True)]


def covered(data, make):
    found = [make(one) for one in data]
    return sum(one.low <= TRUE <= one.high for one in found) / len(found)


@pytest.mark.parametrize(
    ("processes", "rounds", "spreads"),
    [
        (7, 3, {"between": 0.03, "within": 0.02}),
        (7, 3, {"between": 0.03, "within": 0.0001}),
        (7, 1, {"between": 0.0, "within": 0.08}),
        (1, FEWEST, {"between": 0.0, "within": 0.05}),
        (1, 15, {"between": 0.0, "within": 0.02, "shared": 0.7}),  # a tail that all of a round meet
    ],
)
def test_the_interval_covers_what_it_says(processes, rounds, spreads):
    data = list(simulated(processes, rounds, **spreads))
    assert covered(data, ratio_of_medians) >= COVERAGE - SLACK


def test_rounds_of_few_processes_are_no_evidence_of_processes():
    data = list(simulated(7, 15, between=0.05, within=0.01))
    assert covered(data, ratio_of_medians) >= COVERAGE - SLACK
    as_if_independent = [[[pair for one in processes for pair in one]] for processes in data]
    assert covered(as_if_independent, ratio_of_medians) < COVERAGE - 2 * SLACK


def test_the_ratio_is_of_medians_and_each_process_counts_once():
    short, long = [(4.0, 2.0)], [(3.0, 1.0), (9.0, 3.0), (6.0, 2.0)]
    found = ratio_of_medians([short, long])
    assert found.median == pytest.approx(statistics.median([4, 6]) / statistics.median([2, 2]))
    assert (found.count, found.processes, found.sure) == (2, 2, False)
    assert ratio_of_medians([long]).median == 6 / 2
    assert ratio_of_medians([long]).count == 3
    assert ratio_of_medians([[], []]) is None


@pytest.mark.parametrize("count", [FEWEST - 1, FEWEST])
def test_below_six_values_there_is_no_interval(count):
    rounds = [(1.0 + place / 100, 1.0) for place in range(count)]
    assert ratio_of_medians([rounds]).sure is (count >= FEWEST)
    assert ratio_of_medians([[one] for one in rounds]).sure is (count >= FEWEST)


def test_processes_of_different_lengths_are_drawn_as_they_are():
    even = [[(2.0, 1.0)] * (place + 1) for place in range(8)]
    found = ratio_of_medians(even)
    assert (found.low, found.median, found.high) == (2, 2, 2)


def test_the_same_data_have_the_same_interval():
    (one, *_) = simulated(7, 3, between=0.03, within=0.02)
    assert ratio_of_medians(one) == ratio_of_medians([list(rounds) for rounds in one])
