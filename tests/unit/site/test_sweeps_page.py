"""The page "Sweeps" and its picture: sweeps are kept and found again, every value is shown, and text stays text."""

import re
from types import SimpleNamespace

import msgspec
import pytest

from harness.errors import MeasurementError
from harness.results import sweeps
from harness.results.sample import NETWORK_LIMIT
from harness.results.sweeps import InFlightSweep, SweptReader, SweptValue
from harness.site import curves
from harness.site.pages import sweeps as pages
from harness.store.state import Profile
from tests.support.chromium import visit
from tests.support.passes import MIB, sample

NASTY = '</script><img src="x" onerror="window.hacked = 1">'


def value(asked, seconds, *, count=8, na=None):
    taken = [
        msgspec.structs.replace(
            sample(seconds, None, 64 * MIB, max_in_flight=asked), session=1, round_number=number + 1
        )
        for number in range(count if na is None else 0)
    ]
    return SweptValue(in_flight=asked, samples=taken, na=na)


def swept(**fields):
    readers = [
        SweptReader(
            reader="tensorstore",
            versions={"tensorstore": "1"},
            values=[value(1, 4.0), value(10, 0.51), value(100, 0.5)],
        ),
        SweptReader(reader="zarrs", versions={}, values=[value(1, 8.0, count=2), value(10, 2.0), value(100, 1.0)]),
        SweptReader(reader="x", versions={}, values=[value(1, 1, na=NASTY)]),
        SweptReader(reader=NETWORK_LIMIT, versions={}, values=[value(1, 2.0), value(10, 0.25), value(100, 0.25)]),
    ]
    known = {
        "schema": 1,
        "started": "2026-11-27T06:00:00+00:00",
        "label": "whole_array small",
        "target": "embedded:s3",
        "digest": "0" * 16,
        "service": Profile(name="s3"),
        "cores": 2,
        "reads": 1,
        "concurrent_reads": 1,
        "array_bytes": 64 * MIB,
        "sessions": 1,
        "readers": readers,
    }
    return InFlightSweep(**(known | fields))


@pytest.fixture
def conf():
    return SimpleNamespace(results_dir="results")


def test_the_newest_of_a_workload_and_target_is_kept(conf, tmp_path):
    sweeps.keep(conf, tmp_path, "box", swept())
    again = swept(started="2026-11-27T08:00:00+02:00", target="embedded:s3-tail")
    path = sweeps.keep(conf, tmp_path, "box", again)
    sweeps.keep(conf, tmp_path, "box", swept(started="2026-11-27T07:00:00+00:00"))
    assert [one.started[11:16] for one in sweeps.of(conf, tmp_path)] == ["07:00", "08:00"]
    assert path.suffix != ".json"  # asv takes every .json below its results for a result
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(MeasurementError, match="cannot be read"):
        sweeps.of(conf, tmp_path)


def test_figures_are_medians_with_units_and_reads_under_way_share_the_time():
    one = swept(reads=64, concurrent_reads=16)
    told = sweeps.report(one)["readers"][0]
    figures = told["values"][2]["figures"]
    assert figures["array_gbit_s"]["median"] == pytest.approx(64 * MIB * 8 / 0.5e9)
    assert figures["read_seconds"]["median"] == pytest.approx(0.5 * 16 / 64)
    assert figures["max_in_flight"]["median"] == 100
    assert figures["peak_rss_bytes"]["median"] == 150 * MIB + 64 * MIB
    assert (told["knee"]["value"], told["knee"]["low"], told["knee"]["high"]) == (10, 10, 10)
    few = sweeps.report(one)["readers"][1]["values"][0]["figures"]["array_gbit_s"]
    assert (few["low"], few["high"], few["count"]) == (None, None, 2)
    assert sweeps.report(one)["readers"][2]["knee"] is None


def test_the_picture_has_a_plot_for_each_reader_that_says_its_knee():
    drawn = curves.of_sweep(swept())
    assert drawn.count('class="head"') == 4
    assert drawn.count("<circle") == 9
    assert drawn.count('class="limit"') == 3  # in all but its own
    assert "knee at 10 [10, 10]<" in drawn
    assert "no knee up to 100: still rising<" in drawn
    assert drawn.count('class="mark"') == 2  # none at the edge
    assert drawn.count('text-anchor="middle" class="soft">Gbit/s</text>') == 4  # beside each axis
    assert "nothing measured" in drawn
    assert NASTY not in drawn


@pytest.mark.parametrize("width", [860, 350])
def test_the_picture_keeps_within_its_width(width):
    drawn = curves.of_sweep(swept(), width=width)
    places = [float(x) for x in re.findall(r'(?:x|cx)="([\d.]+)"', drawn)]
    assert places
    assert all(0 <= x <= width for x in places)


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(1, 800, [1, 10, 100]), (619, 9060, [1000, 2000, 5000]), (10, 20, [10, 20])]
)
def test_close_ends_of_the_axis_have_more_ticks(low, high, ticks):
    assert list(curves._logarithmic(low, high)) == ticks


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_shows_every_value_and_marks_the_knee(tmp_path, browser, width):
    address = pages.PAGE.write(pages.contents([swept()]), tmp_path).as_uri()
    with visit(browser, address, width=width) as page:
        page.locator("summary").click()
        assert page.locator("svg:visible").count() == 1
        assert page.locator("th.reader").all_inner_texts()[0].startswith("tensorstore")
        assert page.locator("tr.knee th").all_inner_texts() == ["10", "10"]
        assert page.locator("tbody").nth(0).locator("tr.knee td").all_inner_texts()[:2] == ["10", "1.05"]
        assert NASTY in page.locator("td.why").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.evaluate("window.hacked") is None


def test_without_sweeps_there_is_no_page(conf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pages.PAGE.contents(conf) is None
    sweeps.keep(conf, tmp_path, "box", swept())
    assert [one["label"] for one in pages.PAGE.contents(conf).data["sweeps"]] == ["whole_array small"]
