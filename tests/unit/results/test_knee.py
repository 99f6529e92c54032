"""The knee of a sweep: the fewest requests in flight with nearly the best throughput, and its interval."""

import random

import pytest

from harness.results.intervals import FEWEST
from harness.results.knee import NEARLY, knee

VALUES = (1, 10, 100)


def rounds(*seconds, count=8, noise=0.0, drift=0.0, seed=1):
    chance = random.Random(seed)
    return [
        [one * (1 + drift * number) * (1 + noise * chance.gauss(0, 1)) for one in seconds] for number in range(count)
    ]


def test_it_is_the_first_value_within_five_percent_of_the_best():
    found = knee(VALUES, [rounds(10.0, 1.04, 1.0)])
    assert (found.value, found.low, found.high, found.best, found.is_last) == (10, 10, 10, 100, False)
    last = knee(VALUES, [rounds(10.0, 1.06, 1.0)])
    assert (last.value, last.is_last) == (100, True)
    assert knee(VALUES, [rounds(1.0, 1.0, 2.0)]).value == 1
    assert pytest.approx(0.05) == NEARLY


def test_the_interval_holds_what_noise_leaves_open():
    found = knee(VALUES, [rounds(10.0, 1.05, 1.0, noise=0.05)])
    assert (found.low, found.high) == (10, 100)


def test_drift_that_all_values_share_leaves_nothing_open():
    found = knee(VALUES, [rounds(10.0, 1.04, 1.0, drift=0.5)])
    assert (found.low, found.high) == (10, 10)


def test_fewer_rounds_or_processes_than_an_interval_takes_have_none():
    few = knee(VALUES, [rounds(3.0, 2.0, 1.0, count=FEWEST - 1)])
    assert (few.value, few.low, few.high, few.sure, few.count) == (100, None, None, False, FEWEST - 1)
    processes = [rounds(3.0, 2.0, 1.0, count=3)] * 2
    assert not knee(VALUES, processes).sure
    assert knee(VALUES, [rounds(3.0, 2.0, 1.0, count=2)] * FEWEST).sure


def test_a_process_that_is_slow_by_chance_counts_once():
    usual, odd = rounds(10.0, 1.2, 1.0, count=2), rounds(10.0, 0.5, 1.0, count=40)
    assert knee(VALUES, [usual] * 6 + [odd]).value == 100


def test_values_that_sat_rounds_out_or_failed_are_left_out():
    sat_out = [[9.0, 1.0, 1.0], *([None, 1.0, 1.0] for _ in range(9))]
    assert knee(VALUES, [sat_out]).value == 10
    assert knee(VALUES, [[[None, 2.0, 1.0]] * 8]).value == 100
    assert knee(VALUES, [[[None, None, None]]]) is None
    assert knee(VALUES, []) is None
    assert not knee((5,), [rounds(1.0)]).is_last
