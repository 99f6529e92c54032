"""The published site: asv's own page without a network, and its bars over a parameter of names."""

import functools
import hashlib
import http.server
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import asv
import msgspec
import pytest
from asv.util import UserError

from harness import site
from harness.paths import ROOT
from harness.site import offline
from harness.site.pages import index, readers
from tests.support import passes
from tests.support.chromium import follow, visit

pytestmark = pytest.mark.slow

ASV_PAGE = Path(asv.__file__).parent / "www"

BENCHMARK = """
class Bench:
    params = [["first+reader", "second+reader", "third"], [0, 1]]
    param_names = ["reader", "gap"]

    def track_seconds(self, reader, gap):
        return len(reader) / 100 + gap

    def track_requests(self, reader, gap):
        return 5

    track_seconds.unit = "seconds"
    track_requests.unit = "requests"
"""


def run(*command, cwd):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "HOME": str(cwd), "PATH": path}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(folder, *arguments):
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return run("git", *who, *arguments, cwd=folder).strip()


class _Server(http.server.ThreadingHTTPServer):
    """Takes all of a browser's connections at once, however late it is itself."""

    request_queue_size = 64


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """What `asv publish` writes for two measured commits, with pass records beside asv's results."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "project").mkdir()
    git(folder / "project", "init", "-q", "-b", "main")
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").write_text(BENCHMARK)
    config = json.loads((ROOT / "asv.releases.conf.json").read_text())
    kept = {key: config[key] for key in ("version", "project", "dvcs", "branches", "plugins", "project_url")}
    places = {"repo": "project", "environment_type": "existing", "results_dir": "results", "html_dir": "html"}
    (folder / "asv.conf.json").write_text(json.dumps(kept | places))
    for tag in ("v3.2.1", "v3.3.0"):
        git(folder / "project", "commit", "-q", "--allow-empty", "-m", tag)
        git(folder / "project", "tag", tag)
    run("asv", "machine", "--yes", "--machine", "box", cwd=folder)
    for tag in ("v3.2.1", "v3.3.0"):
        commit = git(folder / "project", "rev-parse", tag)
        run("asv", "run", "--machine", "box", "--set-commit-hash", commit, "-E", "existing:same", cwd=folder)
    kept_passes = folder / "results" / "box" / "passes"
    kept_passes.mkdir(exist_ok=True)
    for number, record in enumerate(passes.run()):
        commit = git(folder / "project", "rev-parse", record.commit_name)
        stored = msgspec.structs.replace(record, commit=commit)
        (kept_passes / f"{number}.pass").write_bytes(msgspec.json.encode(stored))
    output = run("asv", "publish", cwd=folder)
    assert "need the network" not in output
    return folder / "html"


@pytest.fixture(scope="module")
def address(published):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=published)
    handler.log_message = lambda *_: None
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def graphs(address):
    """asv's own page."""
    return address + site.GRAPHS


@pytest.mark.parametrize("part", ["", "#/", "#/summarylist", "#/regressions", "#Bench.track_seconds"])
def test_asv_page_asks_no_other_host_and_complains_of_nothing(browser, graphs, part):
    with visit(browser, graphs + part) as page:
        assert "error.html" not in page.url
        assert page.locator("#project-name").inner_text() == "zarr-python"
        assert page.evaluate("$.asv.main_json.project") == "zarr-python"  # its data came over http


@pytest.mark.parametrize(
    ("part", "shown"), [("#/summarylist", "#summarylist-body"), ("#Bench.track_seconds", "#main-graph")]
)
def test_an_address_of_asv_on_the_first_page_leads_to_its_page(browser, address, graphs, part, shown):
    with visit(browser, address + "index.html" + part) as page:
        page.wait_for_url(graphs + "**")
        page.wait_for_selector(f"{shown} >> visible=true")
        assert page.url.partition("#")[2].startswith(part.strip("#/"))


def bars(page):
    """Return flot's bars as they were drawn: the place of each, and how opaque its middle is."""
    return page.evaluate(
        """() => {
            const plot = $("#main-graph").data("plot"), canvas = plot.getCanvas(), ratio = devicePixelRatio;
            const {width, height} = canvas, painted = canvas.getContext("2d").getImageData(0, 0, width, height).data;
            return plot.getData().flatMap((series) => {
                const {points, pointsize} = series.datapoints, found = [];
                for (let i = 0; i < points.length; i += pointsize) {
                    const at = plot.p2c({x: points[i], y: points[i + 1] / 2}), offset = plot.getPlotOffset();
                    const [x, y] = [at.left + offset.left, at.top + offset.top].map((v) => Math.round(v * ratio));
                    found.push({x: points[i], y: points[i + 1], width: series.bars.barWidth, low: series.yaxis.min,
                                opacity: painted[4 * (y * width + x) + 3]});
                }
                return found;
            });
        }"""
    )


@pytest.mark.parametrize("metric", ["track_seconds", "track_requests"])
def test_bars_over_names_are_drawn_side_by_side_from_zero(browser, graphs, metric):
    with visit(browser, f"{graphs}#Bench.{metric}?x-axis=reader&p-gap=0&p-gap=1") as page:
        page.wait_for_function("$('#main-graph').data('plot')?.getData().length == 2")
        drawn = bars(page)
    assert len(drawn) == 6  # three readers with two gaps
    assert {bar["low"] for bar in drawn} == {0}
    places = sorted(bar["x"] for bar in drawn)
    assert all(right - left >= 0.99 * drawn[0]["width"] for left, right in itertools.pairwise(places))
    assert [round(x) for x in places] == [0, 0, 1, 1, 2, 2]
    assert all(bar["opacity"] > 0 for bar in drawn), drawn  # something was painted inside of each bar


def test_graph_over_commits_still_draws_lines(browser, graphs):
    with visit(browser, f"{graphs}#Bench.track_seconds?x-axis=commit") as page:
        page.wait_for_function("$('#main-graph').data('plot')?.getData().length > 0")
        points = page.evaluate("$('#main-graph').data('plot').getData()[0].datapoints.points.length")
        assert points == 4  # two commits, x and y


def test_list_of_benchmarks_sorts_by_a_click(browser, graphs):
    with visit(browser, graphs + "#/summarylist") as page:
        page.wait_for_selector("#summarylist-body tbody tr")

        def values():
            cells = page.locator("#summarylist-body tbody tr td:nth-child(2)")
            return [float(cell.get_attribute("data-sort-value")) for cell in cells.all()]

        page.locator("#summarylist-body th", has_text="Value").click()
        rising = values()
        page.locator("#summarylist-body th", has_text="Value").click()
        assert len(set(rising)) > 2
        assert rising == sorted(rising)
        assert values() == rising[::-1]
        assert "dir=desc" in page.url


@pytest.mark.parametrize(
    "text", ["", "a", "Bench.track_seconds,1,2", "µ→" * 20, "x" * 55, "x" * 56, "x" * 64, "y" * 200]
)
def test_digests_are_those_of_md5(browser, graphs, text):
    with visit(browser, graphs) as page:
        assert page.evaluate("text => md5(text)", text) == hashlib.md5(text.encode()).hexdigest()  # noqa: S324


def test_the_pages_lead_to_each_other(browser, address):
    with visit(browser, address) as page:
        follow(page, "nav >> text=Readers")
        assert page.url.partition("#")[0] == address + readers.PAGE.file
        follow(page, "nav >> text=Graphs over time")
        follow(page, "#nav-li-readers a")
        follow(page, "nav >> text=Answer")
        follow(page, "nav >> text=Graphs over time")
        follow(page, "#nav-li-answer a")
        assert page.url == address + index.PAGE.file
        assert page.locator("#answer li").count() > 3


@pytest.fixture
def asv_site(tmp_path, monkeypatch):
    """asv's page as it is before our plugin, with no pass records; relative paths start here."""
    shutil.copytree(ASV_PAGE, tmp_path / "html")
    monkeypatch.chdir(tmp_path)
    return SimpleNamespace(
        html_dir="html", results_dir="results", repo="none", build_command=None, project="zarr-python"
    )


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(site.log, "warning", lines.append)
    return lines


def test_without_the_libraries_the_site_is_published_and_a_line_says_so(asv_site, said, monkeypatch):
    monkeypatch.setitem(offline.LOADED, "md5.min.js", ("no-such-package", "md5.js"))
    before = Path("html/index.html").read_text()
    site.complete(asv_site)
    asv_page = site.with_entry(before, index.PAGE.file, index.PAGE.title)
    assert Path("html", site.GRAPHS).read_text() == asv_page
    assert "no pass records" in Path("html/index.html").read_text()
    assert len(said) == 2
    assert "readers.html" in said[0]
    assert said[1] == "asv's page will need the network: md5.js of the Python package no-such-package is not installed"


def test_no_tag_keeps_an_address_or_a_digest_of_another_host(asv_site, said):
    site.complete(asv_site)
    page = Path("html", site.GRAPHS).read_text()
    head = page.partition("</head>")[0]
    assert "integrity" not in head
    assert "https://" not in head
    for name in offline.LOADED:
        assert head.count(f'"{offline.VENDOR}/{name}"') == 1
        assert Path("html", offline.VENDOR, name).stat().st_size > 500
    assert "@font-face" not in Path("html", offline.VENDOR, "bootstrap.min.css").read_text()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("jquery-3.3.1.min.js", "jquery-4.0.0.min.js", "jquery-3.3.1.min.js, jquery-4.0.0.min.js"),
        ("</head>", '<script src="https://example.org/new.js"></script></head>', "new.js"),
        ("</head>", '<script src="https://example.org/md5.min.js"></script></head>', "md5.min.js"),
    ],
)
def test_an_asv_page_with_other_scripts_fails_the_publication(asv_site, said, old, new, reason):
    page = Path("html/index.html")
    page.write_text(page.read_text().replace(old, new))
    with pytest.raises(UserError, match=rf"asv's page has changed.*{reason}$"):
        site.complete(asv_site)


def test_an_asv_page_without_the_place_of_our_entry_fails(asv_site):
    page = Path("html/index.html").read_text()
    assert site.with_entry(page, "x.html", "X").count('<li id="nav-li-x"><a href="x.html">X</a></li>') == 1
    with pytest.raises(offline.ChangedError, match="holds 0 times"):
        site.with_entry(page.replace("nav-li-regressions", "nav-li-other"), "x.html", "X")
