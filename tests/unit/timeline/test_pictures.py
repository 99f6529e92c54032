"""Pictures of a timeline: the seed's drawing, SVG, Perfetto's trace, and the page in a browser."""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.errors import BadUseError
from harness.timeline.model import Capture, Chunk, Lag, Request, Timeline, Validity, save
from harness.timeline.pictures import ascii_picture, html_page, perfetto_trace, svg_picture
from harness.timeline.schedule import LIMIT_IS, OPTIMUM_IS
from tests.support.chromium import visit

MS = 1_000_000
BEGIN = 5_000 * MS


def made(count: int, *, in_flight: int = 2, per_shard: int = 1, reader: str = "test-reader") -> Timeline:
    """`count` requests of 40 ms, `in_flight` at once, each with one chunk, as in the seed."""
    requests, chunks = [], []
    for number in range(count):
        sent = BEGIN + number // in_flight * 40 * MS
        key, offset = f"c/{number // per_shard}", 1000 * (number % per_shard)
        requests.append(
            Request(
                id=number,
                method="GET",
                key=key,
                range=(offset, offset + 1000),
                kind="data",
                sent_ns=sent,
                first_byte_ns=sent + 25 * MS,
                last_byte_ns=sent + 40 * MS,
                bytes=1000,
            )
        )
        chunks.append(
            Chunk(
                chunk=(number, 0),
                key=key,
                offset=offset,
                length=1000,
                request=number,
                sent_ns=sent,
                first_byte_ns=sent + 25 * MS,
                last_byte_ns=sent + 40 * MS,
                decode_start_ns=sent + 44 * MS,
                decoded_ns=sent + 46 * MS,
                copy_start_ns=sent + 46 * MS,
                copied_ns=sent + 48 * MS,
                thread=number % 2,
            )
        )
    return Timeline(
        reader=reader,
        workload={"label": "seed", "in_flight": in_flight},
        target="test",
        begin_ns=BEGIN,
        end_ns=max(chunk.copied_ns or 0 for chunk in chunks) + 2 * MS,
        cores=2,
        valid=Validity(ok=True, chunks_wanted=count, chunks_linked=count, requests_recorded=count),
        requests=requests,
        chunks=chunks,
    )


def body(picture: str) -> list[str]:
    return [line for line in picture.splitlines() if " | " in line]


def test_the_picture_is_the_seeds():
    assert body(ascii_picture(made(3), width=66)) == [
        "0,0 | 1---------------2---------3--4-5",
        "1,0 | 1---------------2---------3--4-5",
        "2,0 |                           1----------------2--------3--4--5",
    ]


@pytest.mark.parametrize(("count", "per_shard"), [(1, 1), (40, 1), (41, 1), (300, 10), (300, 1), (300, 300)])
@pytest.mark.parametrize("width", [60, 80, 133])
def test_it_fits_the_terminal_and_groups_what_is_too_much(count, per_shard, width):
    picture = ascii_picture(made(count, in_flight=10, per_shard=per_shard), width=width)
    assert max(map(len, picture.splitlines())) <= width
    lines = body(picture)
    assert len(lines) == min(count, 30 if (count, per_shard) == (300, 10) else 40)
    for line in lines:
        assert [mark for mark in line.partition(" | ")[2] if mark.isdigit()] == list("12345")
    assert ("medians" in picture) == (count > 40)


def test_events_that_are_not_known_are_not_drawn():
    wire = made(2)
    for chunk in wire.chunks:
        chunk.decode_start_ns = chunk.decoded_ns = chunk.copied_ns = None
    for line in body(ascii_picture(wire)):
        assert [mark for mark in line.partition(" | ")[2] if mark.isdigit()] == list("123")


def test_how_late_the_reader_sees_bytes_is_shown():
    seen = made(2)
    late = {"first_byte_ns": Lag(requests=2, median_ns=540_000), "last_byte_ns": Lag(requests=0)}
    seen.capture = Capture(interface="lo", packets=4, clock_error_ns=50, lag=late)
    assert "seen after the wire by (median) first byte 0.5 ms" in ascii_picture(seen, width=300)


def test_a_recording_that_is_not_valid_says_so():
    wrong = made(2)
    wrong.valid.ok, wrong.valid.failures = False, ["the capture dropped 3 packets"]
    assert "NOT VALID: the capture dropped 3 packets" in ascii_picture(wrong)


def test_svg_has_a_bar_per_stage_and_chunk():
    root = ElementTree.fromstring(svg_picture(made(3)))  # noqa: S314 - ours
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text or "" for title in root.iter(f"{space}title")]
    assert len([text for text in titles if text.startswith("decode: 2.00 ms")]) == 3
    assert len([text for text in titles if text.startswith("waiting for decode: 4.00 ms")]) == 3
    assert any("at most 2" in (text.text or "") for text in root.iter(f"{space}text"))


def test_perfetto_has_a_track_per_kind_and_nothing_overlaps_in_it():
    found = json.loads(perfetto_trace(made(9, in_flight=3)))["traceEvents"]
    outer = [event for event in found if event["ph"] == "X" and event["name"] not in ("first byte", "transfer")]
    assert sum(event["pid"] == 1 for event in outer) == sum(event["pid"] == 2 for event in outer) == 9
    tracks = defaultdict(list)
    for event in outer:
        tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in tracks.values():
        assert all(before[1] <= after[0] for before, after in pairwise(sorted(spans)))
    assert max(event["args"]["requests"] for event in found if event["ph"] == "C") == 3
    names = {event["args"]["name"] for event in found if event["name"] == "process_name"}
    assert names == {"requests", "decode", "copies"}


def test_timelines_are_drawn_from_files(tmp_path: Path):
    save(tmp_path / "t.json", made(3))
    done = CliRunner().invoke(zcb, ["timeline", str(tmp_path / "t.json")])
    assert done.exit_code == 0, done.output
    assert len(body(done.stdout)) == 3
    better = CliRunner().invoke(zcb, ["timeline", str(tmp_path / "t.json"), "--optimum"])
    assert "optimum of test-reader" in better.stdout
    assert OPTIMUM_IS in better.stdout
    for form in ("html", "perfetto", "svg"):
        out = tmp_path / f"t.{form}"
        done = CliRunner().invoke(zcb, ["timeline", str(tmp_path / "t.json"), "--format", form, "-o", str(out)])
        assert done.exit_code == 0, done.output
        assert out.stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["none.json"], "cannot read none.json"),
        (["w.json"], "is not a timeline"),
        (["t.json", "t.json"], "ascii draws one timeline"),
        (["t.json", "-o", "t.json"], "'t.json' is the timeline to draw"),
        (["t.json", "-o", "link.json"], "'link.json' is the timeline to draw"),
    ],
)
def test_wrong_use_is_a_line(tmp_path: Path, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "t.json", made(1))
    (tmp_path / "link.json").symlink_to("t.json")
    (tmp_path / "w.json").write_text('{"schema": 1, "reads": []}')
    done = CliRunner().invoke(zcb, ["timeline", *arguments])
    assert isinstance(done.exception, BadUseError)
    assert complaint in str(done.exception)


def _too_early(timeline: Timeline) -> None:
    timeline.chunks[1].decode_start_ns = timeline.begin_ns


def _of_nobody(timeline: Timeline) -> None:
    timeline.chunks[1].request = 99


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_too_early, r"times decrease in 1 chunks, first \(1, 0\)"),
        (_of_nobody, r"1 chunks are linked to a request that did not bring them, first \(1, 0\)"),
        (lambda timeline: timeline.requests.append(timeline.requests[0]), "request ids are not unique"),
        (lambda timeline: (timeline.requests.clear(), timeline.chunks.clear()), "0 requests, of 3 that it says"),
        (lambda timeline: timeline.chunks.pop(), "2 chunks with a request, of 3 that it says"),
    ],
)
def test_a_recording_that_contradicts_itself_is_drawn_only_if_it_says_so(tmp_path: Path, spoil, complaint):
    timeline = made(3)
    spoil(timeline)
    save(tmp_path / "t.json", timeline)
    done = CliRunner().invoke(zcb, ["timeline", str(tmp_path / "t.json")])
    assert isinstance(done.exception, BadUseError)
    assert re.search(complaint, str(done.exception))
    timeline.valid.ok, timeline.valid.failures = False, ["something is wrong"]
    save(tmp_path / "t.json", timeline)
    done = CliRunner().invoke(zcb, ["timeline", str(tmp_path / "t.json")])
    assert done.exit_code == 0, done.output
    assert "NOT VALID: something is wrong" in done.stdout


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_zooms_filters_and_switches(tmp_path: Path, browser, width):
    file = tmp_path / "page.html"
    file.write_text(html_page([made(8, per_shard=4), made(8, in_flight=8, per_shard=4, reader="other")]))
    with visit(browser, file.as_uri(), width=width) as page:
        assert page.locator("canvas").count() == 2
        everything = page.evaluate("timelineView")
        page.get_by_label("Zoom in").click()
        assert page.evaluate("timelineView.end - timelineView.begin") == pytest.approx(everything["end"] / 2)
        page.get_by_label("Show everything").click()
        assert [page.get_by_text(term, exact=True).count() for term in (OPTIMUM_IS, LIMIT_IS)] == [1, 1]
        page.locator("#what").select_option("optimum")
        assert page.evaluate("timelineView.what") == "optimum"
        canvas = page.locator("canvas").first
        tall = canvas.evaluate("canvas => canvas.clientHeight")
        page.locator("select.shard").first.select_option("1")
        assert canvas.evaluate("canvas => canvas.clientHeight") == tall - 4 * 14
        canvas.hover(position={"x": 200, "y": 5})
        tip = page.locator("#tip").inner_text()
        assert "chunk 4,0" in tip
        assert "c/1 bytes 0\u20131000" in tip
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        coloured = "canvas => {const d = canvas.getContext('2d').getImageData(0, 0, canvas.width, 14).data;"
        coloured += (
            "return new Set(Array.from({length: d.length / 4}, (_, i) => d.slice(4 * i, 4 * i + 3).join())).size}"
        )
        assert canvas.evaluate(coloured) >= 4


@pytest.mark.alone
def test_the_page_is_quick_with_many_chunks(tmp_path: Path, browser):
    """Ratios within one browser: 25 times as many chunks cost a frame of less than 5 times as long."""
    times = []
    for count in (2_000, 50_000):
        file = tmp_path / f"{count}.html"
        file.write_text(html_page([made(count, in_flight=100, per_shard=64)]))
        with visit(browser, file.as_uri(), width=1280) as page:
            page.get_by_label("Zoom in").click()
            frames = """() => {
              const canvas = document.querySelector('canvas'), box = canvas.getBoundingClientRect();
              const begin = performance.now();
              for (let i = 0; i < 20; i++) canvas.dispatchEvent(new WheelEvent('wheel',
                {deltaY: i % 2 ? 40 : -40, clientX: box.left + 300, clientY: box.top + 99, cancelable: true}));
              return (performance.now() - begin) / 20;
            }"""
            times.append(page.evaluate(frames))
    assert times[1] < 5 * times[0] + 5
