"""The sweep over gaps: ratios are paired by round, and where merging ceases to pay is named with what is sure."""

import pytest

from harness.cli import sweep
from harness.results.gaps import BestGap, GapCell, GapPair, GapSweep, best_gap, report
from harness.results.intervals import without_interval
from harness.site import curves
from tests.support.passes import sample


def taken(*seconds, session=1):
    found = []
    for number, one in enumerate(seconds, 1):
        found.append(sample(one, None, 8))
        found[-1].session, found[-1].round_number = session, number
    return found


def pair(gap, merged, separate=(1.0,) * 6, **fields):
    return GapPair(gap=gap, gap_bytes=gap * 1024, merged=taken(*merged), separate=taken(*separate), **fields)


def cell(*pairs):
    return GapCell(reader="zarr-python+obstore", first_byte_ms=20, connection_mb_s=90, pairs=list(pairs))


def test_a_ratio_compares_what_was_measured_in_the_same_round():
    drifting = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    found = pair(1, [0.5 * one for one in drifting], drifting).ratio()
    assert (found.median, found.low, found.high) == (0.5, 0.5, 0.5)
    assert pair(1, [0.5] * 6, [1.0] * 3).ratio().count == 3  # one that sat out has no partner
    assert pair(1, []).ratio() is None


def test_the_rule_is_latency_times_bandwidth():
    assert cell().rule_bytes == pytest.approx(0.020 * 90e6)


def test_merging_pays_up_to_the_gap_before_the_turn():
    found = cell(pair(1, [0.5] * 6), pair(3, [0.9, 0.9, 0.9, 0.9, 0.9, 1.2]), pair(9, [2.0] * 6), pair(12, [0.9] * 6))
    assert found.best_gap() == BestGap(above=3072, below=9216, sure_above=12288, sure_below=9216)
    assert cell(pair(1, [0.5] * 6)).best_gap().below is None
    assert cell(pair(1, [1.5] * 6)).best_gap().above is None
    assert cell().best_gap() is None


def test_few_rounds_are_sure_of_nothing():
    found = best_gap([(1, without_interval(0.5, 3)), (2, without_interval(2.0, 3))])
    assert found == BestGap(above=1, below=2, sure_above=None, sure_below=None)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([pair(1, [0.5] * 6), pair(3, [2.0] * 6)], "to 1 KiB"),
        ([pair(1, [0.5] * 6), pair(3, [0.5] * 6)], "at all gaps"),
        ([pair(1, [0.5] * 2), pair(3, [0.5] * 2)], "at all gaps (n=2)"),
        ([pair(1, [0.5])], "at this gap (n=1)"),
        ([pair(2048, [1.5] * 6)], "below 2 MiB"),
        ([pair(1, [])], "-"),
    ],
)
def test_the_answer_of_few_rounds_says_how_many(pairs, said):
    assert sweep._pays(cell(*pairs)) == said


def test_the_picture_marks_the_rule_where_it_lies_among_the_gaps():
    def drawn(*cells):
        fields = {"schema": 1, "started": "", "label": "x", "target": "t", "cores": 2, "in_flight": 100, "sessions": 1}
        swept = GapSweep(versions={}, cells=list(cells), **fields)
        assert report(swept)["cells"][0]["rule_bytes"] == 1.8e6
        return curves.of_gaps(swept)

    assert drawn(cell(pair(1, [0.5] * 6), pair(4000, [2.0] * 6))).count('class="mark"') == 1
    assert drawn(cell(pair(1, [0.5] * 6), pair(40, [2.0] * 6))).count('class="mark"') == 0
