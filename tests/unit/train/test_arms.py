"""Arms: batches in order, how far ahead they read, and what is left when the loop ends early."""

import threading
import time
from typing import override

import numpy as np
import pytest

from harness.errors import BadUseError, UnsupportedError
from harness.train import arms, loop
from harness.train.batches import Ahead
from tests.unit.train.test_loop import listed


class Counted(Ahead):
    """Crops from a list, counted as they are asked for."""

    def __init__(self, crops, wait=None):
        super().__init__()
        self.asked = []
        self._crops, self._wait = crops, wait

    @override
    def _crop(self, dataset, number):
        self.asked.append(number)
        if self._wait is not None:
            self._wait(number)
        return self._crops[number]


def opened(arm, training):
    arm.open(training)
    return arm


def test_batches_come_in_order_whichever_sample_is_there_first():
    training, crops = listed(epochs=2, batches=4, batch=2)
    arm = opened(Counted(crops, lambda number: time.sleep(0.01 * (number % 3))), training)
    for epoch in range(2):
        _, batches = loop.feed(arm.epoch(epoch), loop.pause(0))
        loop.check(training, epoch, batches)
    arm.close()
    assert sorted(arm.asked) == list(range(16))


def test_it_reads_as_far_ahead_as_it_was_told():
    training, crops = listed(batches=8, batch=2)
    arm = opened(Counted(crops), training)
    batches = arm.epoch(0)
    next(batches)
    deadline = time.monotonic() + 10
    while len(arm.asked) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert sorted(arm.asked) == list(range(6))  # the batch that is used, the next one, and one ahead of that
    batches.close()
    arm.close()


@pytest.mark.parametrize(
    ("batch", "ahead", "lead"), [(16, 4, 5), (4, 4, 8), (2, 4, 5), (8, 4, 6), (4, 16, 20), (1, 0, 1)]
)
def test_batches_that_may_be_ready_with_the_first_one_are_no_rate(batch, ahead, lead):
    """16 samples are read at once: waves of so many batches, of which `ahead` and the first one are under way."""
    training, crops = listed(batches=max(2, 2 * lead), batch=batch, ahead=ahead, at_once=16)
    arm = opened(Counted(crops), training)
    assert arm.lead == lead
    arm.close()


def test_an_epoch_that_may_be_ready_with_its_first_batch_has_no_rate():
    too_short, crops = listed(batches=9, ahead=4)
    with pytest.raises(UnsupportedError, match="5 batches may be ready with the first one: an epoch of 9 is too short"):
        opened(Counted(crops), too_short)


def test_what_became_ready_while_the_first_batch_waited_is_not_counted():
    """The first sample waits for a connection, and ten times as long as the others, which are ready by then."""
    training, crops = listed(batches=24, batch=4, ahead=4, at_once=4)
    arm = opened(Counted(crops, lambda number: time.sleep(0.2 if number == 0 else 0.02)), training)
    looped, _ = loop.feed(arm.epoch(0), loop.pause(0), arm.lead)
    arm.close()
    assert len(looped.waits) * training.batch / looped.seconds < 1.02 * 4 / 0.02


def test_a_loop_that_ends_early_leaves_no_sample_to_be_read():
    training, crops = listed(batches=8, batch=2)
    may_go = threading.Event()
    arm = opened(Counted(crops, lambda number: number < 2 or may_go.wait(10)), training)
    batches = arm.epoch(0)
    next(batches)
    batches.close()
    may_go.set()
    arm.close()
    assert len(arm.asked) <= 3  # one thread may have been at it


def test_what_a_library_raises_ends_the_epoch():
    def fail(number):
        if number == 3:
            raise OSError("the connection was reset")

    training, crops = listed()
    arm = opened(Counted(crops, fail), training)
    with pytest.raises(OSError, match="reset"):
        loop.feed(arm.epoch(0), loop.pause(0))
    arm.close()


def test_tensors_are_new_in_each_batch():
    training, crops = listed()
    arm = opened(Counted(crops), training)
    _, batches = loop.feed(arm.epoch(0), loop.pause(0))
    arm.close()
    assert not any(np.shares_memory(one[0], other[0]) for one in batches for other in batches if one is not other)


def test_an_unknown_arm_is_said_with_the_choices():
    with pytest.raises(BadUseError, match=r"unknown arm 'memry': did you mean 'memory'\?"):
        arms.arm("memry")
