"""The page "Timelines": kept recordings are found again, and the page opened as a file shows the ones chosen."""

import re
from types import SimpleNamespace

import pytest

from harness.errors import MeasurementError
from harness.measure.recording import write_timeline
from harness.results import records
from harness.results import timelines as kept
from harness.site.pages import timelines
from harness.timeline.model import Validity
from tests.support.chromium import visit
from tests.unit.timeline.test_pictures import made

OLD, NEW = "0" * 40, "f" * 40
NASTY = '</script><img src="x" onerror="window.hacked = 1">'
TITLES = "() => [...document.querySelectorAll('#viewer h2')].map((one) => one.textContent)"


@pytest.fixture
def conf(tmp_path, monkeypatch):
    monkeypatch.setenv(records.FOLDER_VARIABLE, str(tmp_path / "results" / "box" / "passes"))
    monkeypatch.setenv("ASV_ENV_NAME", "virtualenv-py3.13")
    monkeypatch.setenv("ZCB_TARGET", "embedded:s3")
    monkeypatch.setenv("ZCB_PRESET", "demo")
    return SimpleNamespace(results_dir="results", repo="nowhere", build_command=["true"])


def keep(monkeypatch, commit, read, timeline):
    monkeypatch.setenv("ASV_COMMIT", commit)
    return write_timeline(read, timeline)


@pytest.fixture
def page(conf, tmp_path, monkeypatch):
    for commit in (OLD, NEW):
        for reader in ("zarr-python+obstore", "zarrs-planned"):
            keep(monkeypatch, commit, "one shard", made(4, reader=reader))
    keep(monkeypatch, NEW, "whole array", made(90, in_flight=10, per_shard=30, reader="zarrs-planned"))
    html = tmp_path / "html"
    html.mkdir()
    return timelines.PAGE.write(timelines.contents(kept.of(conf, tmp_path)), html).as_uri()


def test_a_kept_recording_is_found_again_as_it_was(conf, tmp_path, monkeypatch):
    timeline = made(3)
    path = keep(monkeypatch, NEW, "many shards", timeline)
    (found,) = kept.of(conf, tmp_path)
    assert found.timeline == timeline
    assert (found.read, found.commit, found.commit_name) == ("many shards", NEW, NEW[:8])
    assert found.settings == {"ZCB_TARGET": "embedded:s3", "ZCB_PRESET": "demo"}
    assert path.suffix != ".json"  # asv takes every .json below its results for a result
    keep(monkeypatch, NEW, "many shards", made(5))
    (found,) = kept.of(conf, tmp_path)
    assert len(found.timeline.chunks) == 5
    path.write_text("{")
    with pytest.raises(MeasurementError, match=re.escape(path.name)):
        kept.of(conf, tmp_path)


def test_outside_asv_nothing_is_kept(monkeypatch):
    monkeypatch.delenv(records.FOLDER_VARIABLE, raising=False)
    assert write_timeline("one shard", made(1)) is None


def test_the_page_shows_the_recordings_chosen_and_the_address_names_them(page, browser):
    with visit(browser, page) as shown:
        two = shown.evaluate(TITLES)
        assert [title.split(":")[0] for title in two] == ["0" * 8, "f" * 8]
        shown.select_option("#reader2", "nothing")
        shown.select_option("#read", "whole array")
        shown.wait_for_selector("p.bad")
        assert "There is no recording of zarr-python+obstore at 00000000" in shown.inner_text("p.bad")
        shown.select_option("#reader", "zarrs-planned")
        shown.select_option("#commit", "f" * 8)
        shown.wait_for_function("() => document.querySelectorAll('#viewer h2').length === 1")
        assert "zarrs-planned" in shown.evaluate(TITLES)[0]
        address = shown.url
    with visit(browser, address) as again:
        assert "zarrs-planned" in again.evaluate(TITLES)[0]
        assert again.evaluate("() => document.getElementById('read').value") == "whole array"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(page, browser, width):
    with visit(browser, page, width=width) as shown:
        assert shown.evaluate("() => document.documentElement.scrollWidth") <= width


def test_names_are_shown_as_text(conf, tmp_path, monkeypatch, browser):
    timeline = made(2, reader=NASTY)
    timeline.notes, timeline.valid = (
        [NASTY],
        Validity(ok=False, chunks_wanted=2, chunks_linked=2, requests_recorded=2, failures=[NASTY]),
    )
    found = kept.TimelineRecord(
        schema=1, commit=NEW, env_name="e", settings={}, started="", read=NASTY, timeline=timeline, commit_name=NASTY
    )
    written = timelines.PAGE.write(timelines.contents([found]), tmp_path)
    with visit(browser, written.as_uri()) as shown:
        assert NASTY in shown.inner_text("body")
        assert shown.evaluate("() => window.hacked") is None
