"""What pairs allow to say: intervals against hand computation and simulation, answers, error rates of verdicts."""

import math
import random

import numpy as np
import pytest

from harness.results.intervals import Interval
from harness.verdict.judge import Rules
from harness.verdict.statistics import (
    LOOKS,
    Answer,
    confidence_of_a_look,
    interval,
    is_within,
    judge_pairs,
    next_look,
    side_of_equal,
)
from studies.verdict_power import RecordedPair, replay_once

RULES = Rules(comparisons=12, seconds=math.inf)


def between(low, high):
    return Interval(median=(low * high) ** 0.5, low=low, high=high, coverage=0.99, count=20)


def test_the_interval_is_that_of_order_statistics():
    # By hand: of 8 values the median lies outside [smallest, largest] with 2 / 2^8 = 0.8 %, and outside
    # [second, seventh] with 2 * (1 + 8) / 2^8 = 7 %.
    values = [math.log(1 + number / 100) for number in (5, 1, 4, 2, 8, 6, 7, 3)]
    wide, narrow = interval(values, 0.99), interval(values, 0.90)
    assert wide is not None
    assert narrow is not None
    assert (wide.low, wide.high) == (pytest.approx(1.01), pytest.approx(1.08))
    assert (narrow.low, narrow.high) == (pytest.approx(1.02), pytest.approx(1.07))
    assert wide.median == pytest.approx(math.sqrt(1.04 * 1.05))


def test_too_few_pairs_give_no_interval():
    assert interval([0.1] * 7, 0.99) is None
    assert interval([0.1] * 8, 0.99) is not None


@pytest.mark.parametrize("noise", ["normal", "heavy", "skewed"])
def test_the_interval_holds_whatever_the_noise(noise):
    rng = np.random.default_rng(7)
    draw = {
        "normal": lambda: rng.normal(0, 0.05, 24),
        "heavy": lambda: rng.standard_t(1.5, 24) * 0.02,
        "skewed": lambda: rng.exponential(0.05, 24) - 0.05 * math.log(2),  # its median is 0
    }[noise]
    found = [interval(draw(), 0.95) for _ in range(4000)]
    missed = sum(not (one.low <= 1 <= one.high) for one in found if one) / 4000
    assert 0.01 < missed <= 0.056  # exact for 24 values: at most 5 %; too wide an interval would be wrong as well


@pytest.mark.parametrize(
    ("found", "within", "side"),
    [
        (between(0.99, 1.02), True, Answer.UNKNOWN),
        (between(1.005, 1.02), True, Answer.SLOWER),  # surely slower, and surely by less than anybody minds
        (between(0.40, 0.45), False, Answer.FASTER),
        (between(0.95, 0.99), False, Answer.FASTER),
        (between(1.01, 1.06), False, Answer.SLOWER),
        (between(0.99, 1.06), False, Answer.UNKNOWN),
    ],
)
def test_where_an_interval_lies(found, within, side):
    assert is_within(found, 0.03) is within
    assert side_of_equal(found) is side


def test_a_sure_but_small_difference_is_none():
    said = judge_pairs([math.log(1.01) + i * 1e-5 for i in range(40)], comparisons=12)
    assert said.answer is Answer.SAME
    assert said.interval is not None
    assert said.interval.low > 1


def test_what_a_verdict_calls_a_difference_pays_for_all_its_workloads():
    clear = [math.log(1.2) + i * 1e-4 for i in range(24)]
    assert judge_pairs(clear, comparisons=12).answer is Answer.SLOWER
    assert judge_pairs(clear, comparisons=10**6).answer is Answer.UNKNOWN
    assert judge_pairs([], comparisons=1).answer is Answer.UNKNOWN


def test_the_share_of_every_look_adds_up_to_the_error_rate():
    alone = confidence_of_a_look(12, error_rate=0.01)
    assert (1 - alone) * 12 * len(LOOKS) == pytest.approx(0.01)
    assert confidence_of_a_look() < alone


def test_looks_are_used_in_order_and_end():
    assert [next_look(n) for n in (0, LOOKS[0], LOOKS[0] + 1)] == [LOOKS[0], LOOKS[1], LOOKS[1]]
    assert next_look(LOOKS[-1]) is None
    assert list(LOOKS) == sorted(set(LOOKS))


def noise(spread, *, of_processes=0.0, seed=1):
    """Blocks of 16 pairs with what single executions and processes scatter."""
    rng = np.random.default_rng(seed)
    return [
        [RecordedPair(block, shift + rng.standard_t(4) * spread, 0.4) for _ in range(16)]
        for block, shift in enumerate(rng.normal(0, of_processes, 80))
    ]


def replayed(blocks, slowdown, verdicts=200):
    rng = random.Random(3)
    return [replay_once(blocks, slowdown, RULES, rng) for _ in range(verdicts)]


@pytest.mark.parametrize("of_processes", [0.0, 0.005])
def test_equal_sides_are_found_equal(of_processes):
    said = [one.answer for one in replayed(noise(0.03, of_processes=of_processes), 0.0)]
    assert sum(a in (Answer.FASTER, Answer.SLOWER) for a in said) <= 2
    assert said.count(Answer.SAME) >= 0.95 * len(said)


def test_a_slowdown_is_found_and_never_called_faster():
    said = replayed(noise(0.03), 0.05)
    assert sum(one.answer is Answer.SLOWER for one in said) >= 0.95 * len(said)
    assert not any(one.answer is Answer.FASTER for one in said)
    larger = replayed(noise(0.03), 0.20)
    assert np.median([one.pairs for one in larger]) < np.median([one.pairs for one in said])


def test_noise_that_hides_everything_ends_without_an_answer():
    rules = Rules(comparisons=12, seconds=20.0)
    rng = random.Random(3)
    said = [replay_once(noise(0.5), 0.0, rules, rng) for _ in range(50)]
    assert {one.answer for one in said} == {Answer.UNKNOWN}
    assert all(one.pairs in (50, 51) for one in said)  # 0.4 s each: the budget ends it
