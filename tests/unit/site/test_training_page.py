"""The page "Training": what arms fed is found again, shown newest first with its epochs, and text stays text."""

from types import SimpleNamespace

import pytest

from harness.measure.recording import write_timeline, write_training
from harness.results import records, trainings
from harness.results import timelines as recorded
from harness.site.pages import timelines, training
from harness.train import report
from harness.train.conductor import Epoch, Fed
from tests.support.chromium import visit
from tests.unit.timeline.test_pictures import made
from tests.unit.train.test_loop import listed

OLD, NEW = "0" * 40, "f" * 40
NASTY = '</script><img src="x" onerror="window.hacked = 1">'


def epoch(seconds, waits, in_flight=None, fetched=600):
    return Epoch(
        index="cold",
        first_batch_seconds=0.05,
        seconds=seconds,
        samples=4,
        fetched_samples=6,
        tensor_bytes=1024,
        step_seconds=seconds - sum(waits),
        waits=waits,
        steps=[(seconds - sum(waits)) / len(waits)] * len(waits),
        in_flight=in_flight,
        requests=12,
        index_requests=6,
        fetched_bytes=fetched,
        nic_rx_bytes=None,
        max_in_flight=3,
        cpu_seconds=0.06,
        store_cpu_seconds=0.01,
        peak_rss_bytes=200 << 20,
    )


def fed(arm, rate, again=600):
    seconds, waits = 4 / rate, [2 / rate, 0.01]
    return Fed(
        arm=arm,
        epochs=[epoch(seconds + 0.02, waits), epoch(seconds + 0.02, waits, [0.0, 3.0, 1.5])],
        unpaused=[epoch(seconds, [seconds / 2, 0.0], fetched=again)],
        at_steps={5.0: [epoch(seconds + 0.01, waits)]},
        shortest_step=[0.01],
    )


def at_store(reader):
    timeline = made(4, reader=reader)
    timeline.target = "embedded:s3"
    return timeline


ROWS = [
    fed("memory", 4000),
    fed("tensorstore", 400, again=300),
    fed("zarr-python+obstore", 100),
    Fed(arm="x", na=NASTY),
]


@pytest.fixture
def conf(tmp_path, monkeypatch):
    monkeypatch.setenv(records.FOLDER_VARIABLE, str(tmp_path / "results" / "box" / "passes"))
    monkeypatch.setenv("ASV_ENV_NAME", "virtualenv-py3.13")
    monkeypatch.setenv("ZCB_PRESET", "demo")
    return SimpleNamespace(results_dir="results", repo="nowhere", build_command=["true"])


def keep(monkeypatch, commit, rows):
    monkeypatch.setenv("ASV_COMMIT", commit)
    workload, _ = listed(epochs=2)
    return write_training("embedded:s3", workload.label, report.fields(workload, rows, 20.0))


def test_what_was_fed_is_found_again(conf, tmp_path, monkeypatch):
    path = keep(monkeypatch, NEW, ROWS)
    (found,) = trainings.of(conf, tmp_path)
    assert [arm["arm"] for arm in found.report["arms"]] == ["memory", "tensorstore", "zarr-python+obstore", "x"]
    assert found.report["arms"][1]["accelerators_fed"] == pytest.approx(2)
    assert found.report["arms"][1]["requests_per_sample"] == 2
    assert found.report["arms"][3]["verified"] is None
    assert path.suffix != ".json"  # asv takes every .json below its results for a result


def test_the_page_shows_every_arm_newest_version_first(conf, tmp_path, monkeypatch, browser):
    for commit in (OLD, NEW):
        keep(monkeypatch, commit, ROWS)
    html = tmp_path / "html"
    html.mkdir()
    address = training.PAGE.write(training.contents(trainings.of(conf, tmp_path)), html).as_uri()
    with visit(browser, address) as page:
        assert page.locator("h2").all_inner_texts() == [NEW[:8], OLD[:8]]
        rows = page.locator("section").first.locator("table.fed tbody tr")
        assert rows.locator("th").all_inner_texts() == ["memory", "tensorstorek", "zarr-python+obstore", "x"]
        assert rows.nth(1).locator("td").all_inner_texts() == ["400", "25.0", "200", "50.0", "133"]
        assert NASTY in rows.nth(3).inner_text()
        assert page.evaluate("window.hacked") is None


def test_an_epoch_is_drawn_as_waits_above_requests_in_flight(conf, tmp_path, monkeypatch, browser):
    keep(monkeypatch, NEW, ROWS)
    html = tmp_path / "html"
    html.mkdir()
    address = training.PAGE.write(training.contents(trainings.of(conf, tmp_path)), html).as_uri()
    with visit(browser, address) as page:
        assert page.locator("svg.epoch").count() == 3  # the arm without figures has none
        second = page.locator("svg.epoch").nth(1)
        assert [second.locator(f"rect.{kind}").count() for kind in ("wait", "step")] == [2, 2]
        waits = second.locator("rect.wait").evaluate_all(
            "all => all.map(r => [r.x.baseVal.value, r.width.baseVal.value, r.height.baseVal.value])"
        )
        (first_at, first_wide, first_high), (next_at, next_wide, next_high) = waits
        assert first_wide / next_wide == pytest.approx(0.5, rel=0.05)  # 5 ms and 10 ms
        assert first_high / next_high == pytest.approx(0.5, rel=0.05)
        assert next_at > first_at + first_wide  # a step is between them
        below = second.locator("path.flight").bounding_box()
        above = second.locator("rect.step").first.bounding_box()
        assert below["y"] > above["y"]
        assert below["x"] == pytest.approx(second.locator("rect.wait").first.bounding_box()["x"], abs=1)


def test_an_arm_that_keeps_data_is_marked_and_no_other(conf, tmp_path, monkeypatch, browser):
    keep(monkeypatch, NEW, ROWS)
    html = tmp_path / "html"
    html.mkdir()
    address = training.PAGE.write(training.contents(trainings.of(conf, tmp_path)), html).as_uri()
    with visit(browser, address) as page:
        assert page.locator("table.fed sup").count() == 1
        assert page.locator("table.fed tr", has_text="tensorstore").locator("sup").count() == 1
        assert "50 % less when the same samples were read again" in page.locator("main").inner_text()


def test_the_page_leads_to_the_timeline_of_a_batch_of_the_same_build(conf, tmp_path, monkeypatch, browser):
    for commit in (OLD, NEW):
        keep(monkeypatch, commit, ROWS)
    write_timeline(recorded.BATCH_READ, at_store("tensorstore"))
    write_timeline("one shard", at_store("zarr-python+obstore"))
    html = tmp_path / "html"
    html.mkdir()
    kept = recorded.of(conf, tmp_path)
    timelines.PAGE.write(timelines.contents(kept), html)
    address = training.PAGE.write(training.contents(trainings.of(conf, tmp_path), kept), html).as_uri()
    with visit(browser, address) as page:
        links = page.get_by_role("link", name="Timeline of one batch")
        assert links.count() == 1
        links.click()
        page.wait_for_selector("#viewer h2")
        assert page.locator("#viewer h2").count() == 1
        assert [page.locator(f"#{name}").input_value() for name in ("reader", "read", "reader2")] == [
            "tensorstore",
            recorded.BATCH_READ,
            "nothing",
        ]


def test_a_record_of_before_still_shows(conf, tmp_path, monkeypatch):
    keep(monkeypatch, NEW, ROWS)
    (found,) = trainings.of(conf, tmp_path)
    for arm in found.report["arms"]:
        for newer in ("by_step", "reread_kept_share", "keeps_data", "settings"):
            del arm[newer]
        for one in arm["epochs"]:
            del one["steps"], one["in_flight"]
    shown = training.contents([found])
    assert shown.pictures == {}
    html = tmp_path / "html"
    html.mkdir()
    assert "tensorstore" in training.PAGE.write(shown, html).read_text()
