"""Several recordings of the same: which one is kept, and what is said of all."""

import msgspec
import pytest

from harness.measure.timelines import record_several
from harness.timeline.model import Overhead, Validity, decode
from harness.timeline.schedule import analyse
from tests.unit.timeline.test_schedule import chunk, request, timeline


class Recorder:
    """Records timelines that end after so many ms, the first with what recording costs."""

    def __init__(self, *ends, invalid=()):
        self.ends, self.invalid, self.pairs = ends, invalid, []

    def __call__(self, pairs):
        end = self.ends[len(self.pairs)]
        self.pairs.append(pairs)
        made = timeline([request(0, 0, 20, 30)], [chunk(0, (0, 20, 30, 31, 32, end))], end=end)
        failures = ["dropped"] if end in self.invalid else []
        made.valid = Validity(ok=not failures, chunks_wanted=1, chunks_linked=1, requests_recorded=1, failures=failures)
        made.overhead = Overhead(pairs=pairs, plain_seconds=1, recorded_seconds=1, ratio=1) if pairs else None
        return made


def test_the_middle_one_is_kept_and_knows_of_all():
    recorder = Recorder(60, 40, 90, 50, 45)
    kept, *others = record_several(recorder, recordings=5, pairs=3)
    assert recorder.pairs == [3, 0, 0, 0, 0]
    assert len(others) == 4
    assert kept.repeats.seconds == pytest.approx([0.060, 0.040, 0.090, 0.050, 0.045])
    assert analyse(kept).seconds == pytest.approx(0.050)
    assert kept.overhead.pairs == 3
    low, high = min(kept.repeats.times_optimum), max(kept.repeats.times_optimum)
    assert f"({low:.2f}x to {high:.2f}x in 5 recordings)" in analyse(kept).sentence


def test_one_recording_says_nothing_of_a_range():
    (kept,) = record_several(Recorder(60), recordings=1, pairs=0)
    assert kept.repeats is None
    assert "recordings" not in analyse(kept).sentence


def test_a_recording_that_is_not_valid_is_not_hidden_among_others():
    recorder = Recorder(60, 40, 90, 50, 45, invalid=(90,))
    (kept,) = record_several(recorder, recordings=5, pairs=0)
    assert not kept.valid.ok
    assert len(recorder.pairs) == 3


def test_a_timeline_of_before_has_no_repeats():
    fields = msgspec.to_builtins(Recorder(60)(0))
    del fields["repeats"]
    assert decode(msgspec.json.encode(fields)).repeats is None
