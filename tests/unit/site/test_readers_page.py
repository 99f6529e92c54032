"""The page of readers, opened as a file and clicked: what it shows is what the pass records hold."""

import json

import msgspec
import pytest

from harness.readers import reader_class
from harness.results import figures, metrics
from harness.results.cells import DEFAULT_BASELINE, newest
from harness.results.sample import FLAG_IN_FLIGHT, FLAGS, NETWORK_LIMIT
from harness.results.text import number, times
from harness.site.page import Contents
from harness.site.pages import readers
from tests.support import passes
from tests.support.chromium import visit

NASTY = '</script><img src="x" onerror="window.hacked = 1">'
UNKNOWN = {key for key, metric in metrics.METRICS.items() if metric.of(passes.sample(1.0, 1.0, 8), 1) is None}
"""Metrics that the made-up records do not tell."""
EVERY_CELL = """() => [...document.querySelectorAll("#table tbody tr:not(.group)")].flatMap((row) =>
    [...row.querySelectorAll("td")].map((cell) => ({
        pattern: row.closest("tbody").querySelector(".group").textContent,
        workload: row.querySelector("th").firstChild.textContent,
        reader: cell.dataset.reader,
        value: cell.querySelector(".value")?.textContent ?? cell.textContent,
        range: cell.querySelector(".range")?.textContent ?? "",
        ratio: cell.querySelector(".ratio")?.textContent ?? "",
        kind: cell.querySelector(".ratio")?.className ?? "",
        best: cell.classList.contains("best"),
        marks: [...cell.querySelectorAll("abbr")].map((mark) => mark.textContent),
    })))"""


@pytest.fixture(scope="module")
def found():
    return passes.run()


@pytest.fixture(scope="module")
def address(found, tmp_path_factory):
    return written(tmp_path_factory.mktemp("readers"), found)


def written(folder, found):
    contents = Contents(data=readers.payload(found, project="zarr-python"))
    return readers.PAGE.write(contents, folder).as_uri()


def of(found, version, target):
    return newest(r for r in found if (r.commit_name, r.target) == (version, target))


def expected(cells, metric, baseline):
    """What each cell has to show, by our own statistics: (workload, reader) -> value and ratio."""
    by_place = {(cell.row.label, cell.row.reader): cell.row for cell in cells}
    shown = {}
    for (label, reader), row in by_place.items():
        interval = figures.figure(row, metric.key)
        base = by_place[label, baseline]
        ratio = None if base is row or interval is None else figures.ratio(row, base, metric.key)
        value = "" if interval is None else number(interval.median * metric.factor)
        shown[label, reader] = (value, "" if ratio is None else f"{times(ratio.median)}\u00d7")
    return shown


def compare(page, cells, metric, baseline):
    """Compare every cell of the page, and return how many had a value."""
    wanted = expected(cells, metrics.METRICS[metric], baseline)
    drawn = page.evaluate(EVERY_CELL)
    assert len(drawn) == len(wanted)
    for cell in drawn:
        label = f"{cell['pattern'].replace(' ', '_')} {cell['workload']}"
        value, ratio = wanted[label, cell["reader"]]
        if value:
            assert (cell["value"], cell["ratio"].lstrip("↓↑=")) == (value, ratio), (label, cell)
        else:
            assert cell["value"].startswith(("n/a", "failed", "\u2013")), (label, cell)
    return sum(bool(value) for value, _ in wanted.values())


@pytest.mark.parametrize("width", [1280, 390])
def test_every_metric_shows_the_records(browser, address, found, width):
    with visit(browser, address, width=width) as page:
        for metric in metrics.METRICS:
            page.select_option("#metric", metric)
            known = compare(page, of(found, "v3.3.0", "embedded:s3"), metric, DEFAULT_BASELINE)
            assert (known == 0) == (metric in UNKNOWN), metric
    assert {"nic_per_array_byte", "nic_gbits", "header_share"} <= UNKNOWN  # loopback tells none of them


@pytest.mark.parametrize("width", [1280, 390])
def test_every_baseline_version_and_target_can_be_chosen(browser, address, found, width):
    with visit(browser, address, width=width) as page:
        for baseline in (*passes.READERS, NETWORK_LIMIT):
            page.select_option("#baseline", baseline)
            for metric in ("seconds", "cpu_seconds"):
                page.select_option("#metric", metric)
                assert compare(page, of(found, "v3.3.0", "embedded:s3"), metric, baseline) == 35
        page.select_option("#version", "v3.2.1")
        assert compare(page, of(found, "v3.2.1", "embedded:s3"), "cpu_seconds", NETWORK_LIMIT) == 31
        page.select_option("#place", "embedded:loopback demo on box")
        assert compare(page, of(found, "v3.3.0", "embedded:loopback"), "cpu_seconds", NETWORK_LIMIT) == 35


@pytest.mark.parametrize("width", [1280, 900, 390, 320])
def test_the_page_is_never_wider_than_the_window(browser, address, width):
    with visit(browser, address, width=width) as page:
        for metric in metrics.METRICS:
            page.select_option("#metric", metric)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.querySelector('#scroll').scrollWidth") <= (width if width != 900 else 1300)


def test_the_address_keeps_the_choice(browser, address):
    with visit(browser, address) as page:
        page.select_option("#metric", "requests")
        page.select_option("#version", "v3.2.1")
        page.select_option("#baseline", "tensorstore")
        kept = page.url
    with visit(browser, kept) as page:
        chosen = {name: page.input_value(f"#{name}") for name in ("metric", "version", "place", "baseline")}
        place = "embedded:s3 demo on box"
        assert chosen == {"metric": "requests", "version": "v3.2.1", "place": place, "baseline": "tensorstore"}
        page.evaluate("location.hash = 'metric=peak_rss&version=none&baseline=zarrs'")
        page.wait_for_function("document.querySelector('#metric').value === 'peak_rss'")
        assert page.input_value("#version") == "v3.3.0"
        assert page.input_value("#baseline") == "zarrs"


def test_reasons_stand_below_the_table_and_cells_point_to_them(browser, address):
    with visit(browser, address + "#version=v3.2.1&place=embedded:s3 demo on box", width=390) as page:
        notes = page.locator("#notes li").all_inner_texts()
        assert notes == [f"zarr-python+obstore+fused: {passes.NA}", f"zarrista failed: {passes.FAILED}"]
        cells = page.locator('td[data-reader="zarr-python+obstore+fused"]').all_inner_texts()
        assert [text.strip() for text in cells] == ["n/a1"] * 4
        page.locator("td .failed a").click()
        assert page.locator("#note-2").is_visible()
        assert "metric=" in page.url  # the address still holds the choices


def test_better_and_worse_follow_the_direction_of_the_metric(browser, address):
    with visit(browser, address) as page:
        for metric, better in (("seconds", "↓"), ("array_gbits", "↑")):
            page.select_option("#metric", metric)
            kinds = {(cell["ratio"][:1], cell["kind"]) for cell in page.evaluate(EVERY_CELL) if cell["ratio"]}
            worse = "↑" if better == "↓" else "↓"
            assert {(better, "ratio better"), (worse, "ratio worse")} <= kinds
            assert not {(better, "ratio worse"), (worse, "ratio better")} & kinds
            best = [cell["reader"] for cell in page.evaluate(EVERY_CELL) if cell["best"]]
            assert best == ["zarrs-planned"] * 4  # the limit is no candidate
        page.select_option("#metric", "calls")
        assert {cell["kind"].strip() for cell in page.evaluate(EVERY_CELL)} <= {"", "ratio"}


def test_few_samples_colour_nothing(browser, tmp_path):
    with visit(browser, written(tmp_path, passes.run(rounds=3))) as page:
        drawn = page.evaluate(EVERY_CELL)
        assert {cell["kind"].strip() for cell in drawn if cell["ratio"]} == {"ratio"}
        assert {cell["range"] for cell in drawn if cell["reader"] in passes.READERS} == {"n=3", ""}
        assert not any(cell["best"] for cell in drawn)
        assert "With fewer than 6 values (n=3) there is none." in page.locator("#coverage").inner_text()
        bars = page.locator("td[data-reader=tensorstore] .bar")
        assert bars.locator("i").count() == 4
        assert bars.locator("b").count() == 0  # the interval's mark


def test_marks_are_shown_and_explained(browser, address):
    with visit(browser, address) as page:
        drawn = page.evaluate(EVERY_CELL)
        bound = {cell["reader"] for cell in drawn if "cpu" in cell["marks"]}
        assert bound == set(passes.READERS)
        assert all(cell["pattern"] == "whole array" for cell in drawn if "cpu" in cell["marks"])
        assert "CPU was measured, not the network" in page.locator("#marks").inner_text()


def test_a_drifting_machine_is_said_and_a_still_one_too(browser, address, tmp_path):
    with visit(browser, address + "#place=embedded:s3 demo on box") as page:
        text = page.locator("#notices").inner_text()
        assert "The machine drifted between v3.2.1 and v3.3.0: control zarrs-planned +1" in text
    still = written(tmp_path, passes.run(drift=1.0))
    with visit(browser, still + "#place=embedded:s3 demo on box") as page:
        assert "No drift of the machine was seen" in page.locator("#notices").inner_text()
        assert "(8 compared)" in page.locator("#notices").inner_text()


def test_names_are_text_whatever_they_hold(browser, tmp_path):
    found = passes.run(rounds=3, extra={NASTY: 2.0})
    found[-1].rows.append(passes.row("other", "whole_array small", [], na=NASTY))
    with visit(browser, written(tmp_path, found)) as page:
        page.select_option("#baseline", NASTY)
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 0
        assert NASTY in page.locator("thead").inner_text().replace("\n", "")
        assert NASTY in page.locator("#libraries").inner_text()
        page.select_option("#place", "embedded:s3 demo on box")
        texts = page.locator("#notes").inner_text() + page.locator("#table").inner_text()
        assert "failed" in texts
        assert page.evaluate("window.hacked") is None


def test_dark_and_light_follow_the_system(browser, address):
    grounds = set()
    for dark in (False, True):
        with visit(browser, address, dark=dark) as page:
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_unknown_is_null_and_never_zero(found):
    data = readers.payload(found, project="zarr-python")
    versions = [version for place in data["places"] for version in place["versions"]]
    known = [(version["readers"], of["figures"]) for version in versions for of in version["workloads"]]
    assert all("nic_gbits" not in of_metrics for _, of_metrics in known)
    for names, of_metrics in known:
        limit = names.index(NETWORK_LIMIT)
        assert of_metrics["times_slower"]["values"][limit] is None
        assert {of[limit] for of in of_metrics["times_slower"]["ratios"]} == {None}
        assert of_metrics["seconds"]["values"][limit] is not None
    assert len(known) == 3 * len(passes.WORKLOADS)
    json.dumps(data, allow_nan=False)


def test_every_flag_has_its_mark_and_meaning(browser, tmp_path):
    found = passes.run(rounds=3)
    for record in found:
        for sample in record.rows[0].samples:
            sample.flags = [*FLAGS, "of-another-version"]
    with visit(browser, written(tmp_path, found)) as page:
        marks = page.locator(f'td[data-reader="{found[0].rows[0].reader}"] .marks').first.locator("abbr")
        assert sorted(marks.all_inner_texts()) == sorted(
            [*(flag.mark for flag in FLAGS.values()), "of-another-version"]
        )
        explained = page.locator("#marks").inner_text()
        assert [flag.key for flag in FLAGS.values() if flag.meaning not in explained] == []


def test_cells_show_their_processes_the_floor_and_why_a_ratio_is_missing_or_below_one(browser, tmp_path):
    label = "whole_array small"
    seven = [passes.sample(0.4, 0.2, 8, session=n, round_number=n) for n in range(1, 8)]
    fewer = [passes.sample(0.1, 0.2, 8, requests=1, limit_requests=2)] * 7
    over = [passes.sample(0.1, 0.2, 8, max_in_flight=200, flags=["in-flight"])] * 7
    rows = [passes.row("seven", label, seven), passes.row("fewer", label, fewer), passes.row("over", label, over)]
    rows = [msgspec.structs.replace(row, floor_seconds=0.0403) for row in rows]
    with visit(browser, written(tmp_path, [passes.record("v1", rows, sessions=7)])) as page:
        assert "floor 40.3 ms" in page.locator("#table tbody th small").first.inner_text()
        cells = {name: page.locator(f'td[data-reader="{name}"]') for name in ("seven", "fewer", "over")}
        assert "7 processes" in cells["seven"].inner_text()
        assert "1 process" in cells["fewer"].inner_text()
        assert "faster than the limit" not in cells["fewer"].inner_text()
        page.select_option("#metric", "times_slower")
        assert "faster than the limit: it sent fewer requests (1, the limit 2)" in cells["fewer"].inner_text()
        assert cells["over"].inner_text().startswith("\u2013")
        assert "200 requests in flight, and 100 were asked for" in page.locator("#notes").inner_text()
        assert "7 sessions" in page.locator("#runs").inner_text()


def test_a_row_shows_its_settings_and_why_it_had_few_requests_in_flight(browser, tmp_path):
    found = passes.run(rounds=3)
    name = found[0].rows[0].reader
    for record in found:
        record.rows[0] = msgspec.structs.replace(record.rows[0], settings={"async.concurrency": 32})
        for sample in record.rows[0].samples:
            sample.flags, sample.max_in_flight = [FLAG_IN_FLIGHT], 10
    with visit(browser, written(tmp_path, found)) as page:
        marks = page.locator(f'td[data-reader="{name}"] .marks').first.locator("abbr")
        titles = dict(zip(marks.all_inner_texts(), marks.evaluate_all("all => all.map((m) => m.title)"), strict=True))
    assert titles["settings"] == "async.concurrency=32"
    assert titles[FLAGS[FLAG_IN_FLIGHT].mark].endswith(f"; {reader_class(name).holds_back}")
