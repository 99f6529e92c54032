"""``zcb table`` and the statistics under it, from made-up pass records."""

import itertools
import json
import re
import subprocess
import sys

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.cli.table import _times as times_of_table
from harness.paths import ROOT
from harness.readers import reader_class
from harness.results import drift, figures, intervals, metrics
from harness.results.cells import DEFAULT_BASELINE, newest, variants
from harness.results.sample import NETWORK_LIMIT
from harness.results.text import number, times
from tests.support import passes


@pytest.fixture(scope="module")
def found():
    return [record for record in passes.run() if record.target == "embedded:s3"]


def config_of(folder, found):
    kept = folder / "results" / "box" / "passes"
    kept.mkdir(parents=True)
    for place, record in enumerate(found):
        (kept / f"{place}.pass").write_bytes(msgspec.json.encode(record))
    path = folder / "asv.conf.json"
    known = {"version": 1, "project": "x", "repo": "none", "dvcs": "git", "branches": ["main"], "build_command": ["a"]}
    path.write_text(json.dumps(known | {"results_dir": "results"}))
    return path


@pytest.fixture(scope="module")
def config(found, tmp_path_factory):
    return config_of(tmp_path_factory.mktemp("table"), found)


OLD, NEW = "76332e32", "76332e33"
"""What the two made-up commits are called where no repository knows their tags."""


def table(config, *arguments, columns=None):
    environment = {"COLUMNS": str(columns) if columns else None}
    return CliRunner().invoke(zcb, ["table", "--config", str(config), *arguments], env=environment)


def shown(config, *arguments, columns=None):
    done = table(config, *arguments, columns=columns)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("columns", [None, 112, 80, 60])
@pytest.mark.parametrize("by", ["reader", "commit"])
def test_the_table_fits_its_width_and_names_every_reader(config, columns, by):
    text = shown(config, "--by", by, columns=columns)
    assert max(map(len, text.splitlines())) <= (columns or 112)
    words = re.sub(r"\s+", " ", text)
    for part in {part for name in passes.READERS for part in re.split(r"(?=\+)", name)} | {NETWORK_LIMIT}:
        if by == "reader" or columns != 60:
            assert part in words
    assert "n/a" in shown(config, "--commit", OLD, columns=columns)


def test_cells_hold_the_median_the_ratio_and_the_interval(config, found):
    line = re.escape("whole array")
    text = shown(config)
    block = re.search(rf"{line}.*\n(.*)\n(.*)\n", text)
    cells = {cell.row.reader: cell.row for cell in newest(r for r in found if r.commit_name == "v3.3.0")[:9]}
    base = cells[DEFAULT_BASELINE]
    own, paired = (figures.figure(cells["tensorstore"], "seconds"), None)
    paired = figures.ratio(cells["tensorstore"], base, "seconds")
    assert f"{number(own.median * 1e3)} {times(paired.median)}x" in block[1]
    spread = 100 * max(own.high - own.median, own.median - own.low) / own.median
    assert re.search(rf"\+-{spread:.0f}% C\s*$", block[2])  # the last reader of the block; bound by the CPU


def test_json_holds_every_row_with_its_ratio_and_reason(config, found):
    told = json.loads(shown(config, "--json", "--commit", OLD, "--baseline", "zarrs", "--metric", "requests"))
    assert (told["schema"], told["metric"], told["place"]) == (1, "requests", "embedded:s3 demo on box")
    assert len(told["rows"]) == 4 * 9
    reasons = {(row["reader"], row["na"], row["error"]) for row in told["rows"] if row["value"] is None}
    fused = ("zarr-python+obstore+fused", passes.NA, None)
    assert reasons == {fused, ("zarrista", None, passes.FAILED)}
    assert {row["value"]["median"] for row in told["rows"] if row["value"]} == {10}
    ratios = [row["ratio"] for row in told["rows"] if row["reader"] == "tensorstore"]
    assert [ratio["median"] for ratio in ratios] == [1] * 4
    assert {row["ratio"] is None for row in told["rows"] if row["reader"] == "zarrs"} == {True}
    assert "drifted between" in told["notices"][0]


def test_commits_stand_side_by_side_with_the_ratio_to_the_first(config, found):
    told = json.loads(shown(config, "--json", "--by", "commit"))
    rows = {(row["version"], row["workload"], row["reader"]): row for row in told["rows"]}
    assert len(rows) == 2 * 4 * 9
    for label in passes.WORKLOADS:
        old, new = (rows[version, label, "zarr-python+obstore"] for version in (OLD, NEW))
        assert new["ratio"]["median"] == pytest.approx(new["value"]["median"] / old["value"]["median"])
        assert new["ratio"]["low"] < new["ratio"]["median"] < new["ratio"]["high"] < 0.75
    text = shown(config, "--by", "commit")
    row = next(line for line in text.splitlines() if "zarr-python+fsspec" in line)
    assert OLD in text.splitlines()[2]
    old, new = (rows[version, "whole_array small", "zarr-python+fsspec"] for version in (OLD, NEW))
    assert new["ratio_to_version_before"] == new["ratio"]  # the version before the second is the first
    assert old["ratio_to_version_before"] is None
    figures = [number(new["value"]["median"]), f"{times(new['ratio']['median'])}x"]
    assert number(old["value"]["median"]) in row
    assert " ".join(figures) in row


def versions_of(medians, *, rounds=6):
    """Passes of one reader on one workload: version -> its median time in seconds."""
    return [
        passes.record(name, [passes.row("r", "whole_array small", [passes.sample(v, v / 2, 8)] * rounds)], date_ms=date)
        for date, (name, v) in enumerate(medians.items(), 1)
    ]


def test_a_version_is_compared_with_the_first_and_with_the_one_before(tmp_path):
    config = config_of(tmp_path, versions_of({"1.0": 0.8, "2.0": 0.4, "3.0": 0.5}))
    told = json.loads(shown(config, "--json", "--by", "commit"))["rows"]
    ratios = [[row[key] and row[key]["median"] for key in ("ratio", "ratio_to_version_before")] for row in told]
    assert ratios == [[None, None], [0.5, 0.5], [0.625, 1.25]]
    lines = [re.sub(r"\s+", " ", line).strip() for line in shown(config, "--by", "commit").splitlines()]
    assert "workload ms limit ms first limit ms first before limit" in lines
    assert "r 800 2.00 400 0.50x 2.00 500 0.62x 1.25x 2.00" in lines


@pytest.mark.parametrize("view", [["--baseline", "r"], ["--by", "commit"]])
@pytest.mark.parametrize("rounds", [5, 6])
def test_below_six_samples_there_is_no_interval_and_nothing_stands_out(tmp_path, rounds, view):
    found = versions_of({"1.0": 0.8, "2.0": 0.4}, rounds=rounds)
    found[1].rows.append(passes.row("s", "whole_array small", [passes.sample(1.6, 0.4, 8)] * rounds))
    config = config_of(tmp_path, found)
    few = rounds < 6
    assert ("n=5" in shown(config, *view)) is few
    told = json.loads(shown(config, "--json", *view))["rows"]
    for figure in [row["value"] for row in told] + [row["ratio"] for row in told if row["ratio"]]:
        assert figure["count"] == rounds
        assert [figure[end] is None for end in ("low", "high", "coverage")] == [few] * 3
    assert len([row for row in told if row["ratio"]]) == 1


def test_what_has_an_interval_stands_out():
    metric = metrics.METRICS["seconds"]
    for count, style in ((5, ""), (6, "bold yellow")):
        of = figures.ratio(rows_of([2.0] * count), rows_of([1.0] * count), "seconds")
        assert times_of_table(of, metric).style == style


def test_reasons_and_notices_stand_below(config):
    text = re.sub(r"\s+", " ", shown(config, "--commit", OLD))
    assert f"[1] zarr-python+obstore+fused: {passes.NA}" in text
    assert f"[2] zarrista: {passes.FAILED}" in text
    assert "C: reader and store kept over 90 %" in text
    assert f"! The machine drifted between {OLD} and {NEW}: control zarrs-planned +1" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "speed"], "unknown metric 'speed': choose from seconds, "),
        (["--target", "moon"], "no results of target 'moon': there are embedded:s3"),
        (["--commit", "v9"], f"no results of commit 'v9': there are {OLD}, {NEW}"),
        (["--baseline", "cat"], "no results of reader 'cat': there are zarr-python+fsspec, "),
        (["--readers", "zarrs,cat"], "no results of reader 'cat': there are zarr-python+fsspec, "),
        (["--pattern", "cat"], "no results of pattern 'cat': there are whole_array, chunks_of_one_shard"),
        (["--by", "commit", "--baseline", "zarrs"], "takes neither --commit nor --baseline"),
    ],
)
def test_bad_use_is_one_line(config, arguments, message):
    command = [sys.executable, "-m", "harness.cli", "table", "--config", str(config), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_one_pattern_and_some_readers_can_be_asked_for(config):
    shown_rows = json.loads(shown(config, "--pattern", "whole_array", "--readers", "zarrs,tensorstore", "--json"))[
        "rows"
    ]
    assert {row["workload"].partition(" ")[0] for row in shown_rows} == {"whole_array"}
    assert {row["reader"] for row in shown_rows} == {"zarrs", "tensorstore"}


@pytest.mark.parametrize("count", range(1, 13))
def test_an_interval_covers_what_it_says(count):
    left_out, coverage = intervals.rank(count)

    def covered(k):
        # Each value lies below the true median or above it, either with probability 1/2.
        below = [sum(sides) for sides in itertools.product((0, 1), repeat=count)]
        return sum(k + 1 <= b <= count - k - 1 for b in below) / len(below)

    assert coverage == pytest.approx(covered(left_out))
    assert coverage >= intervals.COVERAGE or left_out == 0
    assert covered(left_out + 1) < intervals.COVERAGE  # no narrower one would do


def rows_of(values, *, limit=1.0):
    return passes.row("r", "whole_array small", [passes.sample(value, limit, 8) for value in values])


def test_ratios_are_paired_by_round():
    drifting = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    ratio = figures.ratio(rows_of([2 * v for v in drifting]), rows_of(drifting), "seconds")
    assert (ratio.low, ratio.median, ratio.high, ratio.count) == (2, 2, 2, 6)
    assert ratio.improves("lower") == "worse"


def test_fewest_is_where_an_interval_can_cover_what_it_must():
    assert intervals.rank(intervals.FEWEST)[1] >= intervals.COVERAGE > intervals.rank(intervals.FEWEST - 1)[1]


def test_a_ratio_of_five_rounds_never_stands_out():
    ratio = figures.ratio(rows_of([2.0] * 5), rows_of([1.0] * 5), "seconds")
    assert (ratio.median, ratio.count, ratio.sure, ratio.improves("lower")) == (2, 5, False, "")
    assert not ratio.apart(intervals.interval([9.0] * 9))


def test_the_limit_is_paired_with_the_samples_around_it():
    row = rows_of([2.0, 3.0, 4.0], limit=2.0)
    limit = msgspec.structs.replace(rows_of([2.0] * 7), reader=NETWORK_LIMIT)
    assert figures.ratio(row, limit, "seconds").median == 1.5
    assert figures.ratio(limit, row, "seconds").median == pytest.approx(1 / 1.5)
    other = figures.ratio(row, limit, "requests")
    assert (other.median, other.count) == (1, 0)  # of the medians: no interval


def test_reads_per_second_count_the_selections():
    row = rows_of([0.5, 2.0])
    assert [metrics.METRICS["reads_per_second"].of(sample, row.reads) for sample in row.samples] == [32, 8]


def test_what_is_unknown_takes_no_part():
    unknown = passes.row("r", "whole_array small", [passes.sample(1, 1, 8, requests=None)] * 3)
    known = rows_of([1, 1, 1])
    assert figures.figure(unknown, "requests") is None
    assert figures.ratio(unknown, known, "requests") is None
    assert figures.ratio(known, unknown, "requests") is None


def moved(found):
    return drift.control_changes(variants(found))


def control(version, date, values, **fields):
    row = passes.row("zarrs-planned", "whole_array small", [passes.sample(v, 1, 8) for v in values], **fields)
    return passes.record(version, [row], pattern="WholeArray", date_ms=date)


@pytest.mark.parametrize(
    ("after", "drifted"),
    [
        ([1.10, 1.11, 1.12, 1.11, 1.12, 1.13], True),
        ([0.90, 0.89, 0.90, 0.91, 0.90, 0.89], True),
        ([1.03, 1.03, 1.04, 1.03, 1.04, 1.03], False),  # apart, but by less than what counts
        ([1.10, 1.11, 1.12, 1.11, 0.95, 0.99], False),  # far, but not apart
    ],
)
def test_the_machine_drifted_when_the_control_moved_far_and_for_sure(after, drifted):
    found = [control("v1", 1, [1.0, 1.01, 0.99, 1.0, 1.01, 0.99]), control("v2", 2, after)]
    (move,) = moved(found)
    assert move.drifted is drifted
    assert bool(drift.drift_notices([move])) is drifted


def test_a_control_with_other_libraries_is_none():
    found = [control("v1", 1, [1.0] * 6), control("v2", 2, [2.0] * 6, versions={"library": "2"})]
    assert moved(found) == []


def test_a_control_without_an_interval_says_nothing():
    assert moved([control("v1", 1, [1.0] * 6), control("v2", 2, [2.0] * 5)]) == []
    assert len(moved([control("v1", 1, [1.0] * 6), control("v2", 2, [2.0] * 6)])) == 1


def test_the_newest_pass_of_a_pattern_counts():
    old = passes.record("v1", [rows_of([1.0])], started="2026-11-24T01:00:00+00:00")
    new = passes.record("v1", [rows_of([2.0])], started="2026-11-24T02:00:00+00:00")
    assert [cell.row.samples[0].seconds for cell in newest([new, old])] == [2.0]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (5, "5"), (0.01234, "0.0123"), (2.5, "2.50"), (48.26, "48.3"), (1460.4, "1460")]
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def with_notes(folder):
    label = "whole_array small"
    slow = [passes.sample(0.4, 0.2, 8, session=n, round_number=n) for n in range(1, 8)]
    rows = {
        "slow": slow,
        "fewer": [passes.sample(0.1, 0.2, 8, requests=1, limit_requests=2)] * 7,
        "over": [passes.sample(0.3, 0.2, 8, max_in_flight=200, flags=["in-flight"])] * 7,
    }
    made = [msgspec.structs.replace(passes.row(n, label, of), floor_seconds=0.0403) for n, of in rows.items()]
    return config_of(folder, [passes.record("v1", made)])


@pytest.mark.parametrize("arguments", [["--metric", "times_slower", "--baseline", "slow"], ["--by", "commit"]])
def test_no_ratio_and_one_below_one_stand_with_their_reasons_and_the_floor(tmp_path, arguments):
    text = shown(with_notes(tmp_path), *arguments)
    words = re.sub(r"\s+", " ", text)
    assert "floor 40.3 ms" in words
    assert "Floor: computed from the store's first byte, connections and link" in words
    assert re.search(r"\[\d\] fewer: faster than the limit: it sent fewer requests \(1, the limit 2\)", words)
    assert re.search(r"\[\d\] over: no ratio to the limit: 200 requests in flight, and 100 were asked for", words)
    assert re.search(r"0\.50?0? \[\d\]", words)
    assert "7 processes and covers 98.4 %" in words
    assert "7 samples of one process and covers 98.4 %" in words


def test_json_tells_what_a_ratio_rests_on(tmp_path):
    rows = {row["reader"]: row for row in json.loads(shown(with_notes(tmp_path), "--json"))["rows"]}
    assert rows["slow"]["times_slower"] == {
        "median": 2, "low": 2, "high": 2, "coverage": 0.95, "count": 7, "processes": 7
    }  # fmt: skip
    assert (rows["slow"]["times_slower_note"], rows["slow"]["floor_seconds"]) == ("", 0.0403)
    assert rows["over"]["times_slower"] is None
    assert (rows["slow"]["value"]["processes"], rows["fewer"]["value"]["processes"]) == (7, 1)


def test_metrics_without_a_time_have_no_floor(tmp_path):
    assert "floor" not in shown(with_notes(tmp_path), "--metric", "requests", "--baseline", "slow").lower()


def test_a_tuned_row_has_its_settings_and_one_with_few_requests_the_cause(tmp_path):
    label = "whole_array small"
    few = [passes.sample(1, 0.5, 8, max_in_flight=4, flags=["in-flight"]) for _ in range(7)]
    rows = [passes.row("zarrs", label, few), passes.row("zarrs+tuned", label, few)]
    rows[1] = msgspec.structs.replace(rows[1], settings={"task_per_shard": True, "concurrent_target": 100})
    config = config_of(tmp_path, [passes.record("3.4.2", rows, pattern="WholeArray")])
    text = re.sub(r"\s+", " ", shown(config))
    assert "zarrs+tuned, whole_array small: task_per_shard=True, concurrent_target=100" in text
    for name in ("zarrs", "zarrs+tuned"):
        assert f"F {name}: {reader_class('zarrs').holds_back}" in text
    found = {row["reader"]: row["settings"] for row in json.loads(shown(config, "--json"))["rows"]}
    assert found == {"zarrs": {}, "zarrs+tuned": {"task_per_shard": True, "concurrent_target": 100}}
