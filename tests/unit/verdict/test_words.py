"""What a verdict says: wrong data first, counts beside times, what would settle the rest, at any usual width."""

import io
import itertools

import pytest
from rich.console import Console

from harness.cli.compare import _judge
from harness.errors import AnswerIsNoError, MeasurementError
from harness.verdict.judge import Rules, judge
from harness.verdict.markdown import markdown
from harness.verdict.model import Count, Finding, SideRecord, Verdict
from harness.verdict.page import page
from harness.verdict.pairs import Pair, SideFailedError
from harness.verdict.statistics import LOOKS, PAIRS_PER_BLOCK, Answer
from harness.verdict.terminal import show
from harness.verdict.words import cautions, headline, milliseconds, request_changes, settling
from tests.support import passes

PAIR = passes.sample(0.1, 0.05, 2**20)
COMMAND = "zcb compare 3.2.1 3.3.0 --quick"
WRONG = "WRONG DATA: chunk (0, 0, 0) of demo/small is wrong: its decoded bytes do not match the manifest"


def finding(workload, answer=Answer.SAME, *, reader="zarr-python+obstore", blocks=6, requests=(2, 2), **fields):
    pairs = [Pair(block=n // PAIRS_PER_BLOCK, head_first=False, base=PAIR, head=PAIR) for n in range(4 * blocks)]
    known = {"ratio": 1.001, "low": 0.985, "high": 1.0175, "base_seconds": 0.1083, "head_seconds": 0.1081}
    return Finding(
        reader=reader,
        pattern=workload.partition(" ")[0],
        workload=workload,
        digest="0" * 16,
        array_bytes=2**20,
        answer=answer,
        counts={"requests": Count(base=requests[0], head=requests[1])},
        pairs=pairs,
        **known | fields,
    )


def verdict(*findings, command=COMMAND, **fields):
    side = SideRecord(label="3.2.1", detail="zarr 3.2.1", versions={"zarr": "3.2.1"})
    return Verdict(
        base=side,
        head=side,
        target="embedded:s3",
        command=command,
        started="2026-11-26T00:00:00",
        machine="Linux",
        smallest_effect=0.03,
        error_rate=0.01,
        comparisons=len(findings),
        complete=True,
        findings=list(findings),
        **fields,
    )


def undecided(workload="chunks_of_one_shard small gap=0", **fields):
    asked = {"why": "6 blocks in 20 s leave it open", "budget_seconds": 20.0} | fields
    return finding(workload, Answer.UNKNOWN, **asked)


def failed(reason, **fields):
    return finding("whole_array small", Answer.UNKNOWN, error=reason, ratio=None, low=None, high=None, **fields)


EVERYTHING = verdict(
    finding("chunks_of_one_shard small gap=0", Answer.FASTER, ratio=0.42, low=0.383, high=0.4525, requests=(5, 2)),
    finding("chunks_of_many_shards small shards=64", Answer.SLOWER, ratio=1.123, low=1.1, high=1.146, blocks=108),
    finding("random_crops small crop=4x128x128 crops=64 seed=0", base_seconds=12.3456, head_seconds=12.3457),
    undecided("headline_3004 gem3 reads=1", low=0.895, high=1.105, requests=(None, 49)),
    failed(WRONG),
    finding("whole_array large", reader="zarr-python+obstore+fused", requests=(12345, 12346)),
)
WORDS = """zarr-python+obstore +fused one_shard small gap=0 many_shards shards=64 random_crops crop=4x128x128
crops=64 seed=0 headline_3004 gem3 reads=1 whole_array large 108.3 108.1 12346 2.38x [2.21, 2.61] 12.3
[+10.0 +14.6 WRONG DATA not enough data no difference larger than 3 [-1.5 +1.8 5 2 12,345 12,346 varies
49 108 workload base verdict requests blocks"""


def drawn(what, width):
    console = Console(file=io.StringIO(), width=width)
    show(what, console)
    return console.file.getvalue()


def test_counts_are_said_where_times_say_nothing():
    assert "not enough data in 1 workload (requests unchanged: 2)" in headline(verdict(undecided()))
    assert "(5 → 2 requests)" in headline(verdict(undecided(requests=(5, 2))))
    assert headline(verdict(finding("whole_array small", Answer.SAME))).endswith("1 workload (requests unchanged: 2)")
    faster = finding("whole_array small", Answer.FASTER, ratio=0.5, low=0.4, high=0.6, requests=(5, 2))
    assert headline(verdict(faster)).endswith(", 5 → 2 requests")


def test_equal_counts_are_said_once_and_unknown_ones_not_at_all():
    found = [finding("whole_array small", requests=pair) for pair in [(2, 2), (2, 2), (17, 17), (5, 2), (None, None)]]
    assert request_changes(found) == "5 → 2 requests; requests unchanged: 2, 17"
    assert request_changes(found[-1:]) == "requests not counted"


@pytest.mark.parametrize(
    ("command", "settles"),
    [
        (
            COMMAND,  # its cases are kept: nobody asked for others
            "zcb compare 3.2.1 3.3.0 --quick --readers zarr-python+obstore --patterns chunks_of_one_shard --seconds 40",
        ),
        (
            "zcb pr 3004 --patterns=whole_array,chunks_of_one_shard --seconds 60 --readers a --repo 'my clone'",
            "zcb pr 3004 --repo 'my clone' --readers zarr-python+obstore --patterns chunks_of_one_shard --seconds 40",
        ),
    ],
)
def test_what_would_settle_an_open_question_is_a_command_to_copy(command, settles):
    decided = finding("whole_array small", Answer.SAME)
    one = verdict(decided, undecided(), command=command)
    assert settling(one) == settles
    assert f"To settle what is open: {settles}\n" in drawn(one, 80)
    assert settles in markdown(one)
    assert "To settle what is open" in page(one)


def test_nothing_is_offered_where_nothing_is_open_or_no_more_blocks_are_taken():
    assert settling(verdict(finding("whole_array small", Answer.SAME))) is None
    assert settling(verdict(undecided(blocks=LOOKS[-1]))) is None
    assert settling(verdict(failed("head failed: ValueError"))) is None


def test_seconds_are_those_of_the_blocks_that_an_answer_is_likely_to_need():
    asked = [settling(verdict(undecided(low=1 / high, high=high, ratio=1.0))) for high in (1.03, 1.1, 1.2, 1.4)]
    assert [one and one.rpartition(" ")[2] for one in asked] == ["40", "80", "270", None]
    none = undecided(blocks=1, low=None, high=None, ratio=None, budget_seconds=5.0)
    assert str(settling(verdict(none))).endswith("--seconds 40")  # six blocks, of five seconds each


def test_what_no_number_of_blocks_is_likely_to_settle_has_a_sentence_and_no_command():
    one = verdict(undecided("whole_array large", low=0.614, high=1.557))
    assert settling(one) is None
    said = "108 blocks, the most that are taken, are unlikely to settle zarr-python+obstore, whole_array large: "
    assert [line[: len(said)] for line in cautions(one)] == [said]
    assert said in " ".join(drawn(one, 118).split())
    assert said in markdown(one)
    assert said in page(one)
    both = verdict(undecided("whole_array large", low=0.614, high=1.557), undecided())
    assert "--patterns chunks_of_one_shard --seconds" in str(settling(both))
    assert "one_shard" not in cautions(both)[0]


def test_many_more_and_far_fewer_bytes_are_in_the_headline():
    def fetched(base, head):
        one = finding("whole_array small")
        one.counts["fetched_bytes"] = Count(base=base, head=head)
        return one

    findings = [fetched(77_226, 935_382), fetched(100, 109), fetched(None, 9), fetched(0, 9)]
    assert headline(verdict(*findings)).endswith("; fetches 12.1 times the bytes in 1 workload")
    findings += [fetched(100, 200), fetched(100, 25), fetched(100, 50)]
    said = "fetches up to 12.1 times the bytes in 2 workloads; fetches down to 0.25 times the bytes in 2 workloads"
    assert headline(verdict(*findings)).endswith(said)


@pytest.mark.parametrize(
    ("pairs", "why", "shown"),
    [
        (5, "an answer needs 6 blocks; 1 was taken in 5 s", "0"),
        (8, "an answer needs 6 blocks; 2 were taken in 8 s", "0"),
        (28, "6 blocks in 28 s leave it open", "6"),
    ],
)
def test_a_budget_that_ends_before_a_look_is_said_and_the_table_has_the_blocks_that_were_looked_at(pairs, why, shown):
    one = finding("whole_array small", Answer.UNKNOWN, blocks=0, ratio=None, low=None, high=None)
    slow = passes.sample(0.2, 0.05, 2**20)
    endless = (
        Pair(block=n // PAIRS_PER_BLOCK, head_first=False, base=PAIR, head=slow if n // 4 % 2 else PAIR)
        for n in itertools.count()
    )
    judge(one, endless, Rules(comparisons=1, seconds=pairs), clock=itertools.count().__next__)
    assert len(one.pairs) == pairs
    assert one.why == why
    line = next(line for line in drawn(verdict(one), 118).splitlines() if line.strip().startswith("whole_array"))
    assert line.split()[-1] == shown
    assert f"<td>{shown}</td>" in page(verdict(one))


@pytest.mark.parametrize("width", [80, 120])
def test_no_word_and_no_number_of_the_table_is_cut(width):
    lines = drawn(EVERYTHING, width).splitlines()
    table = lines[next(n for n, line in enumerate(lines) if "workload " in line) :]
    table = table[: next(n for n, line in enumerate(table) if line.startswith("WRONG"))]
    assert max(map(len, table)) <= width
    shown = " ".join(table)
    assert "…" not in shown
    assert set(WORDS.split()) - set(shown.split()) == set()
    assert ("|" in shown) is (width == 120)


def test_how_often_intervals_miss_is_said_where_there_are_some():
    said = (
        "The intervals of faster and slower hold together in all but 1% of verdicts, any other by itself in all but 1%."
    )
    for shown in (" ".join(drawn(EVERYTHING, 118).split()), " ".join(page(EVERYTHING).split())):
        assert said in shown
    for shown in (drawn(verdict(failed("no")), 118), page(verdict(failed("no")))):
        assert "hold together" not in shown


def test_long_times_are_not_written_as_powers_of_ten():
    assert [milliseconds(seconds) for seconds in (None, 0.0012345, 0.1, 12.3456)] == ["-", "1.234", "100", "12346"]


def test_wrong_data_stand_first_everywhere():
    late = failed(str(SideFailedError("head", WRONG)))
    one = verdict(failed("base failed: ValueError: x"), late, finding("whole_array small", Answer.SLOWER, ratio=2.0))
    assert headline(one).startswith("WRONG DATA in 1 workload; ")
    assert one.failures[0].startswith("WRONG DATA (zarr-python+obstore, whole_array small) (head failed): chunk (0, 0")
    assert markdown(one).startswith("**⚠️ WRONG DATA")
    assert "<h1>WRONG DATA" in page(one)
    assert drawn(one, 120).startswith("WRONG DATA")
    with pytest.raises(MeasurementError, match=r"^WRONG DATA"):
        _judge(one)


def test_what_was_not_measured_has_an_exit_code_of_its_own_even_beside_answers():
    fine, slower = finding("whole_array small"), finding("whole_array large", Answer.SLOWER, ratio=1.2)
    broken = failed("head failed: ValueError: x")
    _judge(verdict(fine))
    with pytest.raises(MeasurementError, match="whole_array small: head failed: ValueError: x"):
        _judge(verdict(fine, broken))
    with pytest.raises(AnswerIsNoError, match=r"^slower: "):
        _judge(verdict(slower, broken))


def test_a_pull_request_has_its_title_in_every_form():
    one = verdict(finding("whole_array small"), subject="#7 Read <faster>")
    assert drawn(one, 80).startswith("#7 Read <faster>\n")
    assert "#7 Read &lt;faster&gt;" in markdown(one)
    assert "#7 Read &lt;faster&gt;" in page(one)


def test_a_side_that_cannot_bound_its_requests_is_told_with_what_was_seen():
    wide = [Pair(block=0, head_first=False, base=PAIR, head=passes.sample(0.1, 0.05, 1, max_in_flight=640))]
    said = verdict(finding("whole_array small"))
    assert cautions(said) == []
    said.findings[0].pairs = wide
    said.head = SideRecord(label="main", detail="zarr 9", versions={"zarr": "9"}, bounded=False)
    (line,) = cautions(said)
    assert line.startswith("head's zarr has no setting async.concurrency")
    assert "98 were seen on base's side, 640 on head's" in line
    assert line.split(":")[0] in markdown(said)
    assert "no setting async.concurrency" in page(said)
    assert "no setting async.concurrency" in " ".join(drawn(said, 100).split())
