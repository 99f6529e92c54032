"""The first page, opened as a file: it answers, draws, and leads to the rest."""

import json
import re

import pytest

from harness.readers import under_test
from harness.results.answer import answer
from harness.results.answer_lines import lines
from harness.site import PAGES
from harness.site.pages import index
from tests.support import passes
from tests.support.chromium import visit


@pytest.fixture(scope="module")
def found():
    return passes.run()


def of_place(found):
    return [record for record in found if record.target == "embedded:s3"]


def written(folder, found):
    links = [page for page in PAGES if page is not index.PAGE]
    return index.PAGE.write(index.contents(found, project="zarr-python"), folder, links=links)


@pytest.fixture(scope="module")
def path(found, tmp_path_factory):
    return written(tmp_path_factory.mktemp("index"), of_place(found))


def held(path):
    (block,) = re.findall(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(block)


def test_it_is_the_first_page_and_holds_the_same_lines_as_the_terminal(path, found):
    assert path.name == "index.html"
    said = lines(answer(of_place(found), under_test()))
    data = held(path)
    assert [line["text"] for line in data["lines"]] == [line.text for line in said]
    assert [line["kind"] for line in data["lines"]] == [line.kind for line in said]


def test_it_names_no_other_host_and_leads_to_every_page(path):
    text = path.read_text()
    assert set(re.findall(r"https?://[^\"'\s<]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    linked = set(re.findall(r'href="([^"]+)"', text)) - {"data:,"}
    assert linked == {"graphs.html", "readers.html", "sweeps.html", "timelines.html", "training.html"}


def test_it_tells_what_was_measured_on():
    known = passes.run()
    basis = index.basis(of_place(known))
    assert basis["Read from"] == "embedded:s3"
    assert basis["Data sets"] == "demo"
    assert basis["Machine"] == "box: A Processor, 2 cores"
    assert basis["Versions"] == "v3.2.1, v3.3.0"
    assert basis["Samples of a row"] == "15"
    assert basis["Measured"] == "2026-11-24"
    assert "Network" not in basis


def test_other_places_are_named(found, tmp_path):
    assert len(held(written(tmp_path, found))["elsewhere"]) == 1


def test_without_pass_records_it_says_so_and_leads_on(tmp_path):
    text = written(tmp_path, []).read_text()
    assert "no pass records" in text
    assert 'href="graphs.html"' in text


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_shows_the_answer_and_one_picture_that_fits(browser, path, width, dark):
    with visit(browser, path.as_uri(), width=width, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#answer li").all_inner_texts() == [line["text"] for line in held(path)["lines"]]
        visible = page.locator("section > div > svg >> visible=true")
        assert visible.count() == 1
        box = visible.bounding_box()
        assert 0 < box["x"] < box["x"] + box["width"] <= width
        assert visible.locator("text", has_text="tensorstore").first.is_visible()
        ground, ink = (
            page.evaluate("([name, of]) => getComputedStyle(document.querySelector(name))[of]", list(one))
            for one in (("body", "backgroundColor"), ("svg text", "fill"))
        )
        light, dark_ink = (sum(map(int, re.findall(r"\d+", colour)[:3])) > 384 for colour in (ground, ink))
        assert (light, dark_ink) == (not dark, dark)


def test_the_other_workloads_and_the_table_unfold(browser, path):
    with visit(browser, path.as_uri()) as page:
        assert page.locator("table >> visible=true").count() == 0
        page.locator("summary", has_text="The same as a table").first.click()
        rows = page.locator("table >> visible=true").locator("tbody tr").count()
        assert rows == sum(len(panel["bars"]) for panel in held(path)["main"])
        page.locator("summary", has_text="other workload").click()
        assert page.locator("svg >> visible=true").count() == 2
