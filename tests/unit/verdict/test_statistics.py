"""What blocks of pairs allow to say: intervals by hand and by simulation, answers, and how often they are wrong."""

import math
import random

import numpy as np
import pytest

from harness.results.intervals import Interval
from harness.verdict.judge import Rules
from harness.verdict.statistics import (
    LOOKS,
    NEIGHBOURS,
    Answer,
    Judgement,
    confidence_of_a_look,
    interval,
    is_within,
    judge_blocks,
    last_look,
    likely_look,
    next_look,
    side_of_equal,
)
from studies.verdict_power import RecordedPair, replay_once
from studies.verdict_simulation import Noise, simulated, upper_bound

RULES = Rules(comparisons=12, seconds=math.inf)


def between(low, high):
    return Interval(median=(low * high) ** 0.5, low=low, high=high, coverage=0.99, count=20)


def test_the_interval_is_students_of_block_medians_widened():
    # By hand: mean 0.03, standard deviation sqrt(0.0010 / 4) = 0.01581, of the mean 0.007071; t(0.975, 4) = 2.7764.
    found = interval([0.01, 0.02, 0.03, 0.04, 0.05], 0.95)
    assert found is not None
    reach = 2.7764 * 0.0070711 * NEIGHBOURS
    assert (math.log(found.low), math.log(found.high)) == (
        pytest.approx(0.03 - reach, rel=1e-4),
        pytest.approx(0.03 + reach, rel=1e-4),
    )
    assert found.median == pytest.approx(math.exp(0.03))
    assert found.count == 5


def test_one_block_gives_no_interval():
    assert interval([0.1], 0.99) is None
    assert interval([0.1, 0.1], 0.99) is not None


def test_the_standard_error_is_widened_as_much_as_correlated_pairs_need():
    # Means of neighbouring blocks of four pairs whose noise correlates by 0.5 from pair to pair, by simulation.
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(4000, 4 * 48))
    for number in range(1, noise.shape[1]):
        noise[:, number] = 0.5 * noise[:, number - 1] + math.sqrt(0.75) * noise[:, number]
    means = noise.reshape(4000, 48, 4).mean(axis=2)
    claimed = np.sqrt(means.var(axis=1, ddof=1).mean() / 48)
    assert pytest.approx(means.mean(axis=1).std() / claimed, rel=0.05) == NEIGHBOURS


@pytest.mark.parametrize("noise", ["normal", "heavy", "skewed"])
def test_the_interval_holds_whatever_the_noise_of_pairs(noise):
    rng = np.random.default_rng(7)
    draw = {
        "normal": lambda: rng.normal(0, 0.05, (14, 4)),
        "heavy": lambda: rng.standard_t(3, (14, 4)) * 0.02,
        "skewed": lambda: rng.exponential(0.05, (14, 4)) - 0.05 * math.log(2),  # its median is 0
    }[noise]
    found = [interval(np.median(draw(), axis=1).tolist(), 0.95) for _ in range(4000)]
    missed = sum(not (one.low <= 1 <= one.high) for one in found if one) / 4000
    assert 0.005 < missed <= 0.05  # widened for neighbours that go together, which these do not


def test_a_pair_more_or_less_is_not_a_block_more():
    wild = [[0.0, 0.001, 0.002, 5.0]] * 6  # one pair of each block went wrong
    assert judge_blocks(wild, comparisons=1).answer is Answer.SAME


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
    said = judge_blocks([[math.log(1.01) + i * 1e-5] * 4 for i in range(14)], comparisons=12)
    assert said.answer is Answer.SAME
    assert said.interval is not None
    assert said.interval.low > 1


def test_what_a_verdict_calls_a_difference_pays_for_all_its_workloads():
    clear = [[math.log(1.2) + i * 1e-2] * 4 for i in range(LOOKS[0])]
    assert judge_blocks(clear, comparisons=12).answer is Answer.SLOWER
    assert judge_blocks(clear, comparisons=10**6).answer is Answer.UNKNOWN


def test_nothing_is_said_before_the_first_look():
    assert judge_blocks([], comparisons=1).answer is Answer.UNKNOWN
    assert judge_blocks([[1.0] * 4] * (LOOKS[0] - 1), comparisons=1) == Judgement(answer=Answer.UNKNOWN, interval=None)
    assert judge_blocks([[1.0] * 4] * LOOKS[0], comparisons=1).answer is Answer.SLOWER


def test_the_share_of_every_look_adds_up_to_the_error_rate():
    alone = confidence_of_a_look(12)
    assert (1 - alone) * 12 * len(LOOKS) == pytest.approx(0.01)
    assert confidence_of_a_look() < alone


def test_looks_are_used_in_order_and_end():
    assert [next_look(n) for n in (0, LOOKS[0], LOOKS[0] + 1)] == [LOOKS[0], LOOKS[1], LOOKS[1]]
    assert next_look(LOOKS[-1]) is None
    assert list(LOOKS) == sorted(set(LOOKS))


@pytest.mark.parametrize(
    "noise",
    [
        Noise(process=0.0, pair=0.02),
        Noise(process=0.02, pair=0.02),
        Noise(process=0.01, pair=0.08, shape="t3"),
        Noise(process=0.01, pair=0.02, correlation=0.5),
    ],
    ids=str,
)
def test_equal_sides_are_found_equal_and_a_slowdown_is_found(noise):
    # The whole grid is simulated by studies/verdict_simulation.py: at most 0.1 % of comparisons raise a false alarm.
    rng = np.random.default_rng(3)
    equal = [simulated(noise, 0.0, 12, rng)[0] for _ in range(250)]
    assert sum(answer in (Answer.FASTER, Answer.SLOWER) for answer in equal) <= 2
    assert equal.count(Answer.SAME) >= 0.9 * len(equal)
    slower = [simulated(noise, 0.05, 12, rng)[0] for _ in range(250)]
    assert slower.count(Answer.SLOWER) >= 0.98 * len(slower)
    assert Answer.FASTER not in slower


@pytest.mark.parametrize(("scatter", "middle"), [(0.02, 0.0), (0.03, 0.002), (0.04, 0.04), (0.05, 0.03)])
def test_the_look_that_is_likely_to_answer_is_the_one_that_does_if_blocks_go_on_as_they_did(scatter, middle):
    blocks = [[middle + scatter * (1 if number % 2 else -1)] for number in range(LOOKS[-1])]
    said = {look: judge_blocks(blocks[:look], comparisons=12) for look in LOOKS}
    first = said[LOOKS[0]].interval
    assert said[LOOKS[0]].answer is Answer.UNKNOWN
    assert first is not None
    answered = next(look for look in LOOKS if said[look].answer is not Answer.UNKNOWN)
    assert LOOKS.index(likely_look(first, 12) or 0) - LOOKS.index(answered) in (0, 1)  # six spread a little more


def test_no_look_is_likely_to_answer_where_the_interval_is_far_too_wide():
    whole = Interval(median=0.98, low=0.614, high=1.557, coverage=confidence_of_a_look(), count=9)
    assert likely_look(whole, 12) is None
    assert likely_look(whole, 12, smallest=1.0) == 14


def test_what_came_after_the_last_look_has_no_part_in_an_answer():
    assert [last_look(blocks) for blocks in (0, 5, 6, 8, 9, 107, 108)] == [0, 0, 6, 6, 9, 72, 108]


def test_pairs_judged_as_if_they_were_independent_raise_false_alarms():
    # Why the block is the unit: 16 pairs share two processes that differ by 2 %, and each pair counts by itself.
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(200):
        pairs = [[shift + rng.normal(0, 0.02)] for shift in rng.normal(0, 0.02, 17) for _ in range(16)]
        looks = (16, 24, 40, 64, 104, 168, 272)
        alarms += any(judge_blocks(pairs[:n], 12).answer in (Answer.FASTER, Answer.SLOWER) for n in looks)
    assert alarms > 20


def recorded(noise, seed=1):
    """Recorded pairs of equal sides, 0.4 s each."""
    blocks = noise.blocks(np.random.default_rng(seed))
    return [[RecordedPair(number, value, 0.4) for value in block] for number, block in enumerate(blocks)]


def test_a_replayed_verdict_ends_when_its_answer_is_clear_or_its_time_is_up():
    rng = random.Random(3)
    small = [replay_once(recorded(Noise(process=0.005, pair=0.03)), 0.2, RULES, rng) for _ in range(50)]
    assert {one.answer for one in small} == {Answer.SLOWER}
    assert {one.blocks for one in small} <= set(LOOKS)
    rules = Rules(comparisons=12, seconds=20.0)
    said = [replay_once(recorded(Noise(process=0.0, pair=0.5)), 0.0, rules, rng) for _ in range(50)]
    assert {one.answer for one in said} == {Answer.UNKNOWN}
    assert {one.blocks for one in said} == {13}  # 1.6 s each: the budget ends it


def test_the_bound_of_a_rate_that_was_never_seen():
    assert upper_bound(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert upper_bound(5, 5) == 1.0
