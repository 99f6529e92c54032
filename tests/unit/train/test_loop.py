"""The loop: what its stopwatch sees, and which samples it lets count."""

import time

import msgspec
import numpy as np
import pytest

from harness.datasets.array import ArrayInfo
from harness.errors import BadUseError, MeasurementError, WrongDataError
from harness.targets.target import Target
from harness.train import loop
from harness.train.tensors import process
from harness.workload import training as trainings
from harness.workload.model import Workload
from harness.workload.patterns import Parameters
from harness.workload.training import Training
from harness.workload.truth import Truth, crc32c, pack

CROP = (1, 4, 4)


def listed(epochs=1, batches=4, batch=2, ahead=1, at_once=1):
    """A training workload of crops that are all different, and the crops."""
    crops = [np.full(CROP, number, "uint16") for number in range(epochs * batches * batch)]
    work = Workload(
        schema=1,
        pattern="random_crops",
        parameters=Parameters(crop=CROP, crops=len(crops), seed=0),
        target=Target(name="t", url="s3://bench"),
        array=ArrayInfo(
            key="tiny/small",
            shape=(8, 8, 8),
            chunk_shape=CROP,
            shard_shape=(8, 4, 4),
            dtype="uint16",
            codec="zstd",
            subchunk_order="c",
        ),
        in_flight=4,
        concurrent_reads=at_once,
        reads=tuple(((0, 1, 1), (0, 4, 1), (0, 4, 1)) for _ in crops),
        array_bytes=sum(crop.nbytes for crop in crops),
        wanted_chunks=len(crops),
        wanted_bytes=1,
        wanted_shards=1,
        gap_bytes=(),
        truth=Truth(reads_crc32c=pack(map(crc32c, crops))),
    )
    training = Training(
        schema=1,
        pattern="training",
        workloads=(work,),
        epochs=epochs,
        batches=batches,
        batch=batch,
        ahead=ahead,
        index="cold",
        shuffle=trainings.SHUFFLE,
    )
    return training, crops


def batches_of(training, crops, epoch=0):
    made = []
    for numbers in training.numbers(epoch):
        tensor = np.empty((len(numbers), *CROP), np.float32)
        for place, number in enumerate(numbers):
            process(crops[number], tensor[place])
        made.append((tensor,))
    return made


def test_listed_samples_in_their_order_are_right():
    training, crops = listed(epochs=2)
    for epoch in range(2):
        loop.check(training, epoch, batches_of(training, crops, epoch))
    with pytest.raises(WrongDataError, match="sample 0 of batch 0 of epoch 0"):
        loop.check(training, 0, batches_of(training, crops, 1))


def test_one_wrong_element_is_found():
    training, crops = listed()
    batches = batches_of(training, crops)
    batches[1][0][1, 0, 3, 3] += 2**-15
    with pytest.raises(WrongDataError, match="sample 1 of batch 1 of epoch 0 is not the crop of tiny/small"):
        loop.check(training, 0, batches)


def test_batches_that_change_places_are_found():
    training, crops = listed()
    one, two, three, four = batches_of(training, crops)
    with pytest.raises(WrongDataError, match="batch 0"):
        loop.check(training, 0, [two, one, three, four])
    with pytest.raises(WrongDataError, match="batch 2"):
        loop.check(training, 0, [one, two, two, four])


def test_a_lost_batch_or_sample_is_found():
    training, crops = listed()
    batches = batches_of(training, crops)
    with pytest.raises(MeasurementError, match="3 batches came, 4 are listed"):
        loop.check(training, 0, batches[:3])
    with pytest.raises(MeasurementError, match="batch 0 has 1 samples, 2 are listed"):
        loop.check(training, 0, [(batches[0][0][:1],), *batches[1:]])


def test_waits_and_steps_are_told_apart():
    def slow():
        for pause in (0.05, 0.2, 0.0):
            time.sleep(pause)
            yield ()

    before = time.monotonic_ns()
    looped, kept = loop.feed(slow(), loop.pause(0.1))
    after = time.monotonic_ns()
    assert len(kept) == 3
    assert before + 1e9 * looped.first_batch <= looped.began_ns  # the first batch is used up by then
    assert looped.began_ns + 1e9 * looped.seconds == pytest.approx(after, abs=0.02e9)
    assert looped.first_batch >= 0.05
    assert [len(looped.waits), len(looped.steps)] == [2, 2]
    assert looped.waits[0] >= 0.2 > looped.waits[1]
    assert min(looped.steps) >= 0.1
    assert looped.seconds == pytest.approx(sum(looped.waits) + sum(looped.steps))


def test_batches_made_together_are_no_rate():
    def in_twos():
        for number in range(6):
            time.sleep(0 if number % 2 else 0.1)
            yield ()

    begin = time.perf_counter()
    looped, _ = loop.feed(in_twos(), loop.pause(0), lead=2)
    took = time.perf_counter() - begin
    assert len(looped.waits) == len(looped.steps) == 4  # from the first batch on they would be five in two pairs' time
    assert looped.first_batch >= 0.1
    assert 0.2 <= looped.seconds <= took - looped.first_batch


def test_a_loop_that_fails_ends_what_makes_batches():
    ended = []

    def batches():
        try:
            yield ()
        finally:
            ended.append(True)

    def step(_):
        raise RuntimeError("the step failed")

    with pytest.raises(RuntimeError, match="the step failed"):
        loop.feed(batches(), step)
    assert ended == [True]


def test_a_training_file_is_read_as_written():
    training, _ = listed()
    assert trainings.decode(trainings.encode(training)) == training


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"batches": 5}, "8 reads are not 1 x 5 batches"),
        ({"batches": 1}, "Expected `int` >= 2"),
        ({"schema": 2}, "has schema 2"),
        ({"pattern": "random_crops"}, "is not a training workload"),
        ({"workloads": []}, "it has no data set"),
        ({"index": "lukewarm"}, "lukewarm"),
    ],
)
def test_a_training_file_that_cannot_be_fed_is_refused(change, complaint):
    training, _ = listed()
    fields = msgspec.json.decode(trainings.encode(training)) | change
    with pytest.raises(BadUseError, match=complaint):
        trainings.decode(fields)
