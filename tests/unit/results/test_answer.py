"""The answer from made-up pass records: each kind of finding, its boundaries, and the lines that tell of it."""

import itertools
import json
import shlex

import click
import msgspec
import pytest

from harness.cli.compare import compare
from harness.readers import all_readers, under_test
from harness.results.answer import ONE_PROCESS, SMALLEST, answer, distance
from harness.results.answer_lines import MOST, lines
from harness.results.intervals import interval
from harness.results.sample import FLAG_CPU_BOUND, FLAG_IN_FLIGHT, NETWORK_LIMIT
from harness.verdict.run import of_pattern
from harness.verdict.sides import is_release
from tests.support import passes

ONE, MANY, WHOLE = "chunks_of_one_shard small gap=0", "chunks_of_many_shards small shards=64", "whole_array small"
FSSPEC, OBSTORE = "zarr-python+fsspec", "zarr-python+obstore"
ENOUGH = next(count for count in range(1, 20) if (known := interval([1.0] * count)) and known.sure)
LIMIT = 0.04


def row(reader, median, *, label=ONE, count=7, spread=0.01, limit=LIMIT, flags=(), in_flight=98, **fields):
    """Return a row whose samples lie evenly around their median, `spread` of it to each side."""
    places = [0.0] if count == 1 else [2 * place / (count - 1) - 1 for place in range(count)]
    told = {"flags": list(flags), "max_in_flight": in_flight} | fields
    samples = [passes.sample(median * (1 + spread * place), limit, 2**20, **told) for place in places]
    return passes.row(reader, label, samples)


def versions(*rows_of_each, names=("v3.2.1", "v3.3.0", "v3.4.2"), **fields):
    """Return a pass for each version, oldest first."""
    return [
        passes.record(name, rows, date_ms=place + 1, started=f"2026-11-2{place}T02:00:00+00:00", **fields)
        for place, (name, rows) in enumerate(zip(names, rows_of_each, strict=False))
    ]


def said(found):
    return answer(found, under_test())


def told(found, *kinds):
    return [line.text for line in lines(said(found)) if not kinds or line.kind in kinds]


def only(found):
    (step,) = said(found).steps
    (finding,) = step.findings
    return finding


def test_what_is_faster_is_told_with_its_interval_times_and_requests():
    found = versions([row(OBSTORE, 0.108, requests=5)], [row(OBSTORE, 0.047, requests=2)])
    finding = only(found)
    assert (finding.kind, finding.requests) == ("faster", (5, 2))
    assert finding.seconds == pytest.approx((0.108, 0.047))
    low, high = finding.interval
    assert finding.ratio == pytest.approx(0.047 / 0.108)
    assert low < finding.ratio < high
    text = "v3.2.1 -> v3.3.0, chunks of one shard: 2.3x faster [2.3, 2.3], 108 -> 47 ms, 5 -> 2 requests"
    assert told(found, "faster") == [f"{text} ({OBSTORE}, small gap=0)"]


def test_what_is_slower_is_told_by_a_number_above_one_and_before_what_is_faster():
    old = [row(OBSTORE, 0.05), row(OBSTORE, 0.10, label=MANY)]
    new = [row(OBSTORE, 0.03), row(OBSTORE, 0.14, label=MANY)]
    slower, faster = told(versions(old, new), "slower", "faster")
    assert slower.startswith("v3.2.1 -> v3.3.0, chunks of many shards: 1.40x slower [1.37, 1.43], 100 -> 140 ms (")
    assert faster.startswith("v3.2.1 -> v3.3.0, chunks of one shard: 1.67x faster [1.6")


def test_equal_findings_of_a_pattern_are_one_line():
    old = [row(name, 0.1, label=label) for name in (FSSPEC, OBSTORE) for label in passes.WORKLOADS]
    new = [
        row(name, size, label=label) for name, size in ((FSSPEC, 0.05), (OBSTORE, 0.04)) for label in passes.WORKLOADS
    ]
    found = told(versions(old, new), "faster")
    assert len(found) == 3
    (line,) = [line for line in found if "one shard" in line]
    assert "up to 2.5x faster [" in line
    assert line.endswith(f"({OBSTORE}, small gap=0; fsspec 2.0x; 4 of 4 compared)")


NEARER = 1.001 / 0.999
"""Medians are as many times farther from each other than the nearer ends of intervals of 0.1 % to each side."""


@pytest.mark.parametrize(
    ("new", "spread", "kind"),
    [
        (0.1, 0.01, "same"),
        (0.1 * (1 + SMALLEST) - 1e-6, 0.05, "same"),
        (0.1 * (1 + SMALLEST) + 1e-6, 0.05, "undecided"),
        (0.1 / (1 + SMALLEST) - 1e-6, 0.05, "undecided"),
        (0.101, 0.001, "same"),  # what two processes of the same code can differ by
        (0.1 * (1 + ONE_PROCESS) * NEARER - 1e-6, 0.001, "undecided"),
        (0.1 * (1 + ONE_PROCESS) * NEARER + 1e-6, 0.001, "slower"),
        (0.2, 0.3, "undecided"),  # medians far apart, nearer ends not
        (0.2, 0.2, "slower"),
        (0.05, 0.3, "undecided"),
        (0.05, 0.2, "faster"),
    ],
)
def test_a_change_is_sure_where_intervals_are_apart(new, spread, kind):
    assert only(versions([row(OBSTORE, 0.1, spread=spread)], [row(OBSTORE, new, spread=spread)])).kind == kind


@pytest.mark.parametrize("control", [0.1, 0.11, 0.1 / 1.1])  # still, and moved by a tenth either way
def test_where_the_machine_drifted_a_change_is_sure_beyond_that_too(control):
    def kind(new):
        before = [row(OBSTORE, 0.1, spread=0.001), row("zarrs-planned", 0.1, spread=0.001)]
        return only(
            versions(before, [row(OBSTORE, new, spread=0.001), row("zarrs-planned", control, spread=0.001)])
        ).kind

    least = (1 + ONE_PROCESS) * max(control / 0.1, 0.1 / control) * NEARER
    assert [kind(0.1 * least * way) for way in (0.9999, 1.0001)] == ["undecided", "slower"]
    assert [kind(0.1 / least * way) for way in (0.9999, 1.0001)] == ["faster", "undecided"]


def test_what_seven_processes_tell_apart_is_sure_however_small():
    def seven(median):
        found = row(OBSTORE, median, spread=0.001)
        for place, sample in enumerate(found.samples, 1):
            sample.session = sample.round_number = place
        return found

    assert only(versions([seven(0.1)], [seven(0.101)])).kind == "slower"
    assert only(versions([seven(0.1)], [row(OBSTORE, 0.101, spread=0.001)])).kind == "same"


@pytest.mark.parametrize("counts", [(ENOUGH - 1, 15), (15, ENOUGH - 1), (1, 1), (ENOUGH, ENOUGH)])
def test_both_medians_need_enough_samples(counts):
    old, new = (row(OBSTORE, size, count=count) for size, count in zip((0.1, 0.05), counts, strict=True))
    finding = only(versions([old], [new]))
    enough = min(counts) >= ENOUGH
    assert finding.kind == ("faster" if enough else "undecided")
    assert (finding.interval is not None) == enough
    (text,) = told(versions([old], [new]), "faster", "undecided")
    assert text.startswith("v3.2.1" if enough else "Undecided from v3.2.1 to v3.3.0: 1 of 1 (fewer than ")


def test_readers_that_do_not_change_with_the_version_are_not_compared():
    rows = [[row(name, size) for name in passes.READERS] for size in (0.1, 0.05)]
    (step,) = said(versions(*rows)).steps
    assert {finding.reader for finding in step.findings} == set(under_test())
    assert "zarrs-python+obstore" not in under_test()
    assert set(under_test()) < set(all_readers())


def test_each_release_is_compared_with_the_one_before_it_and_the_newest_comes_first():
    found = versions([row(OBSTORE, 0.10)], [row(OBSTORE, 0.05)], [row(OBSTORE, 0.07)])
    assert [(step.before, step.after) for step in said(found).steps] == [("v3.2.1", "v3.3.0"), ("v3.3.0", "v3.4.2")]
    newest, older = told(found, "slower", "faster")
    assert newest.startswith("v3.3.0 -> v3.4.2, chunks of one shard: 1.40x slower")
    assert older.startswith("v3.2.1 -> v3.3.0, chunks of one shard: 2.0x faster")


def test_one_release_alone_is_said_to_be_alone():
    found = versions([row(OBSTORE, 0.1)])
    assert said(found).steps == []
    assert told(found, "same") == ["Only v3.2.1 was measured: there is nothing to compare it with."]


def test_releases_without_a_common_workload_are_said_to_have_none():
    found = versions([row(OBSTORE, 0.1, label=ONE)], [row(OBSTORE, 0.1, label=MANY)])
    (text,) = told(found, "same")
    assert "no reader of zarr-python was measured on the same workload at both" in text
    assert told(found, "undecided", "command") == []


def test_nothing_new_is_an_answer_too():
    found = versions([row(OBSTORE, 0.1)], [row(OBSTORE, 0.1)])
    assert told(found, "same") == ["v3.2.1 -> v3.3.0: nothing got faster or slower for sure, of 1 compared."]


def test_a_row_that_fails_since_a_version_is_told_first_and_one_that_cannot_is_not():
    failed = passes.row(OBSTORE, ONE, [], error="GET data/c/0/0:\n503 Slow Down" + " again" * 50)
    old = [row(OBSTORE, 0.1), row(FSSPEC, 0.1), row(FSSPEC, 0.1, label=MANY)]
    new = [failed, passes.row(FSSPEC, ONE, [], na="no"), row(FSSPEC, 0.2, label=MANY)]
    first, second = told(versions(old, new), "failed", "slower", "faster", "same")
    assert f"chunks of one shard: failed, and did not before ({OBSTORE}, small gap=0): GET data/c/0/0: 503" in first
    assert "\n" not in first
    assert len(first) < 250
    assert "many shards: 2.0x slower" in second
    (step,) = said(versions(old, new)).steps
    assert len(step.findings) == 2
    assert said(versions([failed], [failed])).steps[0].findings == []
    assert said(versions([failed], [row(OBSTORE, 0.1)])).steps[0].findings == []


def test_the_limit_is_farthest_where_the_best_reader_is():
    rows = [
        row(FSSPEC, 9 * LIMIT, label=ONE), row(OBSTORE, 1.2 * LIMIT, label=ONE),
        row(FSSPEC, 3 * LIMIT, label=MANY), row(OBSTORE, 4 * LIMIT, label=MANY, flags=[FLAG_CPU_BOUND]),
    ]  # fmt: skip
    farthest = said(versions(rows)).farthest
    assert (farthest.reader, farthest.pattern, farthest.slower) == (FSSPEC, "chunks_of_many_shards", pytest.approx(3))
    text = "At v3.2.1 zarr-python is farthest from the network limit in chunks of many shards, small shards=64: 3.0x"
    assert told(versions(rows), "limit")[0] == f"{text} slower [3.0, 3.0] (best there: {FSSPEC})."
    bound = [row(OBSTORE, 4 * LIMIT, flags=[FLAG_CPU_BOUND])]
    assert "; bound by the CPU)" in told(versions(bound), "limit")[0]


def test_a_distance_of_few_samples_is_told_where_there_is_no_better_one_and_as_undecided():
    few = row(OBSTORE, 5 * LIMIT, count=1)
    assert (
        "5.0x slower (best there: zarr-python+obstore; undecided, with 1 sample)" in told(versions([few]), "limit")[0]
    )
    sure = row(OBSTORE, 2 * LIMIT, label=MANY)
    assert said(versions([few, sure])).farthest.pattern == "chunks_of_many_shards"


def test_who_had_more_in_flight_than_asked_for_has_no_distance():
    beyond = row("zarrs", LIMIT / 2, flags=[FLAG_IN_FLIGHT], in_flight=130)
    below = row("zarrs", LIMIT, flags=[FLAG_IN_FLIGHT], in_flight=10)
    assert distance(beyond) is None
    assert distance(below).median == pytest.approx(1)
    assert distance(passes.row("zarrs", ONE, [passes.sample(1, None, 8)])) is None
    assert [standing.reader for standing in said(versions([beyond, row(OBSTORE, LIMIT)])).standings] == [OBSTORE]


def test_the_nearest_reader_is_the_one_over_all_patterns_each_of_which_counts_once():
    many_of_one = [label for label in passes.WORKLOADS if label.startswith("chunks_of_one")]
    assert len(many_of_one) == 2
    rows = [row("tensorstore", 4 * LIMIT, label=label) for label in many_of_one]
    rows += [row("tensorstore", LIMIT, label=MANY)]
    rows += [row("zarrista", 2.5 * LIMIT, label=label) for label in (*many_of_one, MANY)]
    rows += [row("zarrs", LIMIT, label=ONE)]  # not on every workload
    rows += [row("zarrs-planned", 1.1 * LIMIT, label=label) for label in (*many_of_one, MANY)]
    rows += [row(NETWORK_LIMIT, LIMIT, label=ONE, limit=None)]
    whole = said(versions(rows))
    assert [(one.reader, round(one.slower, 6)) for one in whole.standings] == [("tensorstore", 2), ("zarrista", 2.5)]
    assert [one.reader for one in whole.possible] == ["zarrs-planned"]
    (text,) = [text for text in told(versions(rows), "limit") if text.startswith("Nearest")]
    plan = "what an I/O plan of our own reaches: zarrs-planned 1.10x"
    assert text == f"Nearest to it over all 2 patterns: tensorstore 2.0x, then zarrista 2.5x; {plan}."


def test_without_distances_nothing_is_said_of_the_limit():
    found = versions([row(OBSTORE, 0.1, limit=None)])
    assert (said(found).farthest, said(found).standings) == (None, [])
    assert told(found, "limit") == []


UNDECIDED = [
    [row(name, size, label=label, spread=0.3) for name in (FSSPEC, OBSTORE) for label in passes.WORKLOADS]
    for size in (0.1, 0.12)
]


def test_what_is_undecided_comes_with_the_command_that_decides_it():
    text, command = told(versions(*UNDECIDED), "undecided", "command")
    assert text == (
        "Undecided from v3.2.1 to v3.3.0: 8 of 8 (medians up to 20 % apart, not sure to differ). What differs "
        "most is decided by:"
    )
    words = shlex.split(command)
    assert words[:2] == ["zcb", "compare"]
    parsed = compare.make_context("compare", words[2:])
    assert isinstance(parsed, click.Context)
    given = parsed.params
    assert (given["base"], given["head"], given["target"]) == ("3.2.1", "3.3.0", "embedded:s3")
    assert is_release(given["base"])
    assert given["readers"].split(",") == [FSSPEC, OBSTORE]
    assert {case.pattern for name in given["patterns"].split(",") for case in of_pattern(name)} == {
        "whole_array", "chunks_of_one_shard", "chunks_of_many_shards",
    }  # fmt: skip


def test_the_command_names_what_differs_most_and_what_else_tells_the_place():
    rows = [[row(OBSTORE, size, label=ONE, spread=0.3), row(OBSTORE, 0.1, label=MANY)] for size in (0.1, 0.12)]
    settings = {"ZCB_TARGET": "my bucket", "ZCB_PRESET": "tiny"}
    (command,) = told(versions(*rows, settings=settings), "command")
    start = "ZCB_PRESET=tiny zcb compare 3.2.1 3.3.0 --patterns chunks_of_one_shard"
    assert command == f"{start} --readers {OBSTORE} --target 'my bucket'"


@pytest.mark.parametrize(
    ("zarr", "commit", "name"),
    [
        ("3.3.0", "a" * 40, "3.3.0"),
        ("3.2.2.dev45+g7531de5a", "a" * 40, "a" * 12),
        ("3.2.2a0", "a" * 40, "a" * 12),
        ("3.2.2a0", "", None),
        ("unknown", "", None),
    ],
)
def test_a_version_is_named_as_a_comparison_takes_it(zarr, commit, name):
    found = versions(*UNDECIDED)
    found[1] = msgspec.structs.replace(found[1], packages={"zarr": zarr}, commit=commit)
    text, *command = told(found, "undecided", "command")
    assert [shlex.split(one)[3] for one in command] == ([] if name is None else [name])
    assert text.endswith("decided by:" if name else "differ).")


def test_the_newest_undecided_versions_are_told_and_older_ones_counted():
    found = versions(UNDECIDED[0], UNDECIDED[1], UNDECIDED[0])
    text, command = told(found, "undecided", "command")
    assert text.startswith("Undecided from v3.3.0 to v3.4.2: 8 of 8 (")
    assert "; 8 from v3.2.1 to v3.3.0. " in text
    assert command.startswith("zcb compare 3.3.0 3.4.2 ")


def test_few_samples_and_overlapping_intervals_are_told_apart():
    old = [row(OBSTORE, 0.1, count=2), row(FSSPEC, 0.1, spread=0.3)]
    new = [row(OBSTORE, 0.1, count=2), row(FSSPEC, 0.107, spread=0.3)]
    (text,) = told(versions(old, new), "undecided")
    assert f"2 of 2 (1 with fewer than {ENOUGH} samples; 1 with medians up to 7 % apart" in text


def test_a_machine_that_moved_is_told_last():
    found = [record for record in passes.run(drift=1.2) if record.target == "embedded:s3"]
    assert lines(said(found))[-1].kind == "drift"
    assert "The machine drifted between v3.2.1 and v3.3.0" in told(found)[-1]
    still = [record for record in passes.run(drift=1.0) if record.target == "embedded:s3"]
    assert told(still, "drift") == []


def test_an_answer_has_at_most_ten_lines_and_counts_the_rest():
    """Three patterns that get faster and slower in turns, over many versions, on a machine that drifts."""
    sizes = itertools.cycle([1.0, 0.4, 1.5])
    names = [f"v3.{minor}.0" for minor in range(9)]
    of_each = []
    for place in range(len(names)):
        rows = [row(name, next(sizes), label=label) for label in passes.WORKLOADS for name in (OBSTORE, FSSPEC)]
        rows += [row("zarrs-planned", 0.1 * 1.2**place, label=ONE), row(FSSPEC, 1, label=ONE, spread=0.5)]
        of_each.append(rows)
    found = versions(*of_each, names=names)
    whole = lines(said(found))
    assert len(whole) == MOST == 10
    (more,) = [line.text for line in whole if line.kind == "more"]
    assert more.endswith("more such lines: `zcb table --by commit` has every figure.")
    assert int(more.split()[0]) > 10
    kept = [line.kind for line in whole]
    assert kept.index("slower") < kept.index("more")  # slower ones are kept before faster ones
    assert kept[-1] == "drift"
    assert all("\n" not in line.text for line in whole)


def test_only_the_python_of_the_newest_pass_is_answered_of():
    found = versions([row(OBSTORE, 0.1)], [row(OBSTORE, 0.05)])
    older = msgspec.structs.replace(
        found[1], python="3.12.4", started="2026-11-01T00:00:00+00:00", commit_name="v3.3.0"
    )
    assert said([*found, older]).versions == ["v3.2.1", "v3.3.0"]
    assert said([found[0], older]).versions == ["v3.2.1"]


def test_an_answer_is_plain_json():
    for found in (versions(*UNDECIDED), versions([row(OBSTORE, 0.1, count=1)], [row(OBSTORE, 0.1, count=1)])):
        text = json.dumps(msgspec.to_builtins(said(found)), allow_nan=False)
        assert json.loads(text)["place"] == "embedded:s3 demo on box"
