"""The page "Training": what arms fed is found again, shown newest first, and text stays text."""

from types import SimpleNamespace

import pytest

from harness.measure.recording import write_training
from harness.results import records, trainings
from harness.site.pages import training
from harness.train import report
from harness.train.conductor import Epoch, Fed
from tests.support.chromium import visit
from tests.unit.train.test_loop import listed

OLD, NEW = "0" * 40, "f" * 40
NASTY = '</script><img src="x" onerror="window.hacked = 1">'


def epoch(seconds, waits):
    return Epoch(
        index="cold",
        first_batch_seconds=0.05,
        seconds=seconds,
        samples=4,
        fetched_samples=6,
        tensor_bytes=1024,
        step_seconds=seconds - sum(waits),
        waits=waits,
        requests=12,
        index_requests=6,
        fetched_bytes=600,
        nic_rx_bytes=None,
        max_in_flight=3,
        cpu_seconds=0.06,
        store_cpu_seconds=0.01,
        peak_rss_bytes=200 << 20,
    )


def fed(arm, rate):
    seconds = 4 / rate
    return Fed(
        arm=arm,
        epochs=[epoch(seconds + 0.02, [seconds / 2, 0.01])] * 2,
        unpaused=[epoch(seconds, [seconds / 2, 0.0])],
        shortest_step=[0.01],
    )


ROWS = [fed("memory", 4000), fed("tensorstore", 400), fed("zarr-python+obstore", 100), Fed(arm="x", na=NASTY)]


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
    assert found.report["arms"][3]["verified"] is False
    assert path.suffix != ".json"  # asv takes every .json below its results for a result


def test_the_page_shows_every_arm_newest_version_first(conf, tmp_path, monkeypatch, browser):
    for commit in (OLD, NEW):
        keep(monkeypatch, commit, ROWS)
    html = tmp_path / "html"
    html.mkdir()
    address = training.PAGE.write(training.contents(trainings.of(conf, tmp_path)), html).as_uri()
    with visit(browser, address) as page:
        assert page.locator("h2").all_inner_texts() == [NEW[:8], OLD[:8]]
        rows = page.locator("section").first.locator("tbody tr")
        assert rows.locator("th").all_inner_texts() == ["memory", "tensorstore", "zarr-python+obstore", "x"]
        assert rows.nth(1).locator("td").first.inner_text() == "400"
        assert rows.nth(1).locator("svg rect").count() == 2
        assert NASTY in rows.nth(3).inner_text()
        assert page.evaluate("window.hacked") is None
