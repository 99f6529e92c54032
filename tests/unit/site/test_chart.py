"""The picture of readers against the network limit: which bars there are, how long, and what stands beside them."""

import math
import xml.etree.ElementTree as ElementTree

import pytest

from harness.readers import under_test
from harness.results.sample import FLAG_CPU_BOUND, FLAGS
from harness.site import chart
from tests.support import passes
from tests.unit.results.test_answer import FSSPEC, LIMIT, MANY, OBSTORE, ONE, WHOLE, row, versions

SVG = "{http://www.w3.org/2000/svg}"
NASTY = '</svg><img src="x" onerror="window.hacked = 1">'


def panels(*rows_of_each):
    return chart.panels(versions(*rows_of_each), under_test())


def drawn(shown, **fields):
    return ElementTree.fromstring(chart.svg(shown, title="a title", name="a", **fields))  # noqa: S314 - our own


def bars(root):
    return [rect for rect in root.iter(f"{SVG}rect") if rect.get("class") != "ground"]


def texts(root):
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def test_releases_stand_side_by_side_each_by_its_best_reader_and_others_once():
    old = [row(OBSTORE, 3 * LIMIT), row(FSSPEC, 4 * LIMIT), row("tensorstore", 2 * LIMIT)]
    new = [row(OBSTORE, 3 * LIMIT), row(FSSPEC, 2 * LIMIT), row("tensorstore", LIMIT), row("zarrs-planned", LIMIT)]
    (panel,) = panels(old, new)
    assert [(bar.label, bar.kind) for bar in panel.bars] == [
        ("zarr-python v3.2.1 +obstore", "earlier"),
        ("zarr-python v3.3.0 +fsspec", "tested"),
        ("tensorstore", "other"),
        ("zarrs-planned", "control"),
    ]
    assert [bar.slower.median for bar in panel.bars] == pytest.approx([3, 2, 1, 1])


def test_a_bar_is_as_long_as_the_logarithm_of_its_value():
    rows = [
        row(OBSTORE, 2 * LIMIT),
        row("tensorstore", 4 * LIMIT),
        row("zarrs", LIMIT / 2, requests=1, limit_requests=2),
    ]
    two, four, half = bars(drawn(panels(rows)))
    lengths = [float(bar.get("width")) for bar in (two, four, half)]
    assert lengths[1] / lengths[0] == pytest.approx(2, rel=0.01)
    assert lengths[2] == pytest.approx(lengths[0], rel=0.01)
    assert float(half.get("x")) + lengths[2] == pytest.approx(float(two.get("x")), abs=0.2)  # faster: to the left


def test_few_samples_are_grey_and_have_no_interval():
    root = drawn(panels([row(OBSTORE, 2 * LIMIT), row("tensorstore", 2 * LIMIT, count=1)]))
    assert [bar.get("class") for bar in bars(root)] == ["tested", "few"]
    assert sum(path.get("class") == "whisker" for path in root.iter(f"{SVG}path")) == 1
    assert "2.0x (1 sample)" in texts(root)


def test_what_has_no_figure_says_why_and_marks_stand_beside_their_value():
    rows = [
        row(OBSTORE, 2 * LIMIT, flags=[FLAG_CPU_BOUND]),
        passes.row("zarrs", ONE, [], na="cannot"),
        passes.row("zarrista", ONE, [], error="503"),
        row("tensorstore", LIMIT, limit=None),
        row("zarrs-python+obstore", LIMIT / 2, requests=1, limit_requests=2),
    ]
    (panel,) = panels(rows)
    found = [bar.value for bar in panel.bars]
    assert found == [f"2.0x {FLAGS[FLAG_CPU_BOUND].mark}", "n/a", "failed", "no limit", "0.50x fewer requests"]
    assert len(bars(drawn([panel]))) == 2


def test_of_each_pattern_the_workload_is_chosen_that_is_farthest():
    other = "chunks_of_one_shard small gap=15"
    sizes = {ONE: 2, other: 3, MANY: 4, WHOLE: 1}
    rows = [row(OBSTORE, size * LIMIT, label=label) for label, size in sizes.items()]
    found = panels([*rows, row("tensorstore", 9 * LIMIT, label=ONE)])
    assert len(found) == 4
    assert {panel.workload for panel in chart.chosen(found)} == {"small gap=15", "small shards=64", "small"}


def test_a_workload_that_the_newest_version_was_not_measured_on_shows_the_last_that_was():
    found = panels([row(OBSTORE, LIMIT), row("zarrs", LIMIT)], [row(OBSTORE, LIMIT, label=MANY)])
    by_workload = {panel.workload: [(bar.label, bar.kind) for bar in panel.bars] for panel in found}
    assert by_workload["small gap=0"] == [("zarr-python v3.2.1 +obstore", "tested"), ("zarrs", "other")]


@pytest.mark.parametrize("width", [860, 350])
def test_everything_stays_within_the_picture(width):
    rows = [row(name, 10 ** (place / 4) * LIMIT, label=label) for label in passes.WORKLOADS
            for place, name in enumerate(passes.READERS)]  # fmt: skip
    root = drawn(panels(rows), width=width)
    _, _, across, down = map(float, root.get("viewBox").split())
    assert across == width
    for bar in bars(root):
        assert 0 <= float(bar.get("x")) <= float(bar.get("x")) + float(bar.get("width")) <= across
        assert float(bar.get("y")) + float(bar.get("height")) <= down
    for text in root.iter(f"{SVG}text"):
        length = 6.6 * len("".join(text.itertext()))
        starts = float(text.get("x")) - {"end": length, "middle": length / 2}.get(text.get("text-anchor"), 0)
        if text.get("class") != "head":
            assert starts >= 0
            assert starts + length <= across, "".join(text.itertext())


def test_the_axis_is_shared_where_it_is_given():
    near, far = panels([row(OBSTORE, 2 * LIMIT)]), panels([row(OBSTORE, 60 * LIMIT)])
    ends = chart.axis([*near, *far])
    alone, shared = (float(bars(drawn(near, **given))[0].get("width")) for given in ({}, {"ends": ends}))
    assert shared < alone / 4
    assert ends[0] == 1
    assert ends[1] >= 60
    assert math.isfinite(ends[1])


def test_who_does_not_see_the_picture_is_told_every_value():
    root = drawn(panels([row(OBSTORE, 2 * LIMIT), row("tensorstore", 4 * LIMIT)]))
    named = {element.get("id"): element.text for element in root}
    assert [named[one] for one in root.get("aria-labelledby").split()] == ["a title", named["a-desc"]]
    assert "zarr-python v3.2.1 +obstore 2.0x, tensorstore 4.0x" in named["a-desc"]


def test_names_are_text():
    shown = chart.svg(panels([row(OBSTORE, 2 * LIMIT), row(NASTY, 2 * LIMIT)]), title=NASTY, name="a")
    assert "<img" not in shown
    assert NASTY in texts(ElementTree.fromstring(shown))  # noqa: S314 - our own
