"""The conductor's end of a worker: whatever the other end does, there is one error within the deadline."""

import time

import pytest

from harness.errors import MeasurementError
from harness.measure import process
from harness.measure.process import WorkerProcess, told
from harness.results.sample import Timed
from tests.unit.measure.test_conductor import fake


@pytest.fixture
def start():
    started = []

    def begin(how):
        started.append(WorkerProcess(fake(how)))
        return started[-1]

    yield begin
    for worker in started:
        worker.stop()


@pytest.mark.parametrize("how", ["babbles", "nests", "lists", "binary"])
def test_an_answer_that_is_no_object_is_an_error(start, how):
    with pytest.raises(
        MeasurementError, match=f"{how}: its worker answered something that is not JSON, or not an object"
    ):
        start(how).ask({"op": "sample"}, timeout=60)


def test_an_error_that_is_no_text_is_an_error(start):
    with pytest.raises(MeasurementError, match="what"):
        start("complains").require({"op": "sample"}, timeout=60)


@pytest.mark.parametrize(("how", "why"), [("forgets", "missing"), ("odd", "Expected `float`, got `str`")])
def test_an_answer_without_what_was_asked_for_is_an_error(start, how, why):
    answer = start(how).require({"op": "sample"}, timeout=60)
    with pytest.raises(MeasurementError, match=f"answered without a valid 'timed': .*{why}"):
        told(answer, "timed", Timed)


def test_a_second_answer_is_not_taken_for_that_of_the_next_question(start):
    worker = start("repeats")
    assert "timed" in worker.ask({"op": "sample"}, timeout=60)
    time.sleep(0.2)  # until the second line has come
    with pytest.raises(MeasurementError, match="said something that it was not asked"):
        worker.ask({"op": "open"}, timeout=60)


def test_a_worker_that_does_not_read_has_its_deadline_too(start):
    begin = time.monotonic()
    with pytest.raises(MeasurementError, match="no answer within 1 s"):
        start("deaf").ask({"op": "open", "workload": "x" * (1 << 20)}, timeout=1)
    assert time.monotonic() - begin < 30


def test_a_worker_that_says_no_more_and_goes_on_is_given_up(start, monkeypatch):
    monkeypatch.setattr(process, "_LEAVING_SECONDS", 0.5)
    with pytest.raises(MeasurementError, match="closed its stdout and went on"):
        start("closes").ask({"op": "sample"}, timeout=60)


def test_an_answer_without_an_end_is_given_up(start, monkeypatch):
    monkeypatch.setattr(process, "_LONGEST_ANSWER", 1 << 20)
    worker = start("endless")
    monkeypatch.setattr(worker, "_demand_silence", lambda: None)
    with pytest.raises(MeasurementError, match="answer has more than 1048576 bytes"):
        worker.ask({"op": "sample"}, timeout=60)
