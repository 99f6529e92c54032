"""Two targets side by side: 95th percentiles, rankings that turn over, and what ``zcb table --against`` shows."""

import json
import re

import numpy as np
import pytest

from harness.errors import BadUseError
from harness.results import cells
from harness.results.turnover import FEWEST_OF_TAIL, P95, p95, turned
from tests.support import passes
from tests.unit.results.test_table import config_of, shown, table

LABEL = "chunks_of_one_shard small gap=0"


def readers(*, spread=0.01, seed=1, sessions=7, rounds=3, **medians):
    """Return rows of readers whose times spread, in the same rounds."""
    draw = np.random.default_rng(seed)
    return [
        passes.row(
            name,
            LABEL,
            [
                passes.sample(
                    median * float(np.exp(draw.normal(0, spread))), 0.04, 8, session=1 + n // rounds, round_number=n + 1
                )
                for n in range(sessions * rounds)
            ],
        )
        for name, median in medians.items()
    ]


def rankings(here, there):
    sides = [cells.by_workload(cells.newest([passes.record("v1", rows)])) for rows in (here, there)]
    return {(one.faster, one.slower) for one in turned(*sides)}


@pytest.mark.parametrize(("sigma", "count"), [(0.1, 25), (0.69, 100)])
def test_the_interval_of_the_95th_percentile_covers_what_it_says(sigma, count):
    draw, true, hits = np.random.default_rng(5), float(np.exp(1.6449 * sigma)), 0
    for _ in range(1000):
        found = p95(np.exp(draw.normal(0, sigma, count)).tolist())
        hits += found.low <= true and (found.high is None or true <= found.high)
    assert hits / 1000 >= 0.95 - 0.02


def test_a_95th_percentile_needs_samples_and_its_upper_end_more():
    assert p95([1.0] * (FEWEST_OF_TAIL - 1)) is None
    few, many = (p95([float(n) for n in range(1, count + 1)]) for count in (FEWEST_OF_TAIL, 200))
    assert (few.value, few.high, few.count) == (P95 * FEWEST_OF_TAIL, None, FEWEST_OF_TAIL)
    assert many.low < many.value == P95 * 200 < many.high


def test_a_ranking_turns_over_where_both_targets_are_sure():
    here, there = readers(a=0.040, b=0.050, c=0.060), readers(a=0.060, b=0.050, c=0.0605)
    assert rankings(here, there) == {("a", "b")}
    assert rankings(there, here) == {("b", "a")}
    assert rankings(here, readers(a=0.060, b=0.050, spread=0.5)) == set()  # not sure
    assert rankings(readers(a=0.040, b=0.0408), readers(a=0.060, b=0.050)) == set()  # level
    assert rankings(here, readers(a=0.060, b=0.050, sessions=2)) == set()  # too few processes


def test_equal_readers_hardly_ever_turn_over():
    found = [rankings(readers(a=1.0, b=1.0, spread=0.1, seed=n), readers(a=1.0, b=1.0, spread=0.1, seed=n + 500))
             for n in range(100)]  # fmt: skip
    assert sum(map(bool, found)) <= 2


def records():
    at = {"embedded:s3": readers(a=0.040, b=0.050), "embedded:s3-tail": readers(a=0.070, b=0.055)}
    return [passes.record("v1", rows, target=target, started=f"2026-11-24T0{n}:00:00") for n, (target, rows) in
            enumerate(at.items())]  # fmt: skip


@pytest.mark.parametrize("other", ["s3-tail", "embedded:s3-tail"])
def test_the_table_names_what_turns_over(tmp_path, other):
    config = config_of(tmp_path, records())
    text = re.sub(r"\s+", " ", shown(config, "--target", "embedded:s3", "--against", other))
    assert "embedded:s3 embedded:s3-tail" in text
    assert "Rankings that turn over for sure (1): time of the first reader over that of the second" in text
    assert re.search(r"chunks_of_one_shard small gap=0: a / b: (0\.[78]\d) \[.*\] becomes 1\.[23]\d \[", text)
    told = json.loads(shown(config, "--target", "embedded:s3", "--against", other, "--json"))
    assert [(one["faster"], one["slower"]) for one in told["turned"]] == [("a", "b")]
    (a, _) = told["rows"]
    here, there = a["sides"]
    assert here["median"]["median"] == pytest.approx(40, rel=0.02)
    assert here["median"]["low"] < here["median"]["median"] < here["median"]["high"]
    assert there["p95"]["low"] <= there["p95"]["value"]
    assert (there["p95"]["high"], there["p95"]["count"]) == (None, 21)
    assert here["times_slower"]["processes"] == 7


def test_without_a_turnover_it_says_so_and_bad_uses_are_refused(tmp_path):
    config = config_of(tmp_path, records())
    text = shown(config, "--target", "embedded:s3", "--against", "embedded:s3")
    assert "No ranking of two readers turns over for sure." in text
    for arguments, reason in {
        ("--against", "loopback"): "no results of target 'embedded:loopback': there are embedded:s3, embedded:s3-tail",
        ("--against", "s3", "--metric", "requests"): "--against compares times of two targets",
    }.items():
        refused = table(config, *arguments).exception
        assert isinstance(refused, BadUseError)
        assert reason in str(refused)
