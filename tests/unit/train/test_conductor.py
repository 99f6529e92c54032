"""What is made of an epoch that a worker's stopwatch saw."""

from types import SimpleNamespace

import pytest

from harness.train import conductor
from harness.train.conductor import _Cost
from harness.train.loop import Looped


def test_a_step_that_comes_back_late_is_no_busy_accelerator():
    looped = Looped(first_batch=0.1, waits=[0.001, 0.001], steps=[0.02, 0.5], began_ns=0)
    training = SimpleNamespace(index="cold", batch=4, samples_per_epoch=12, tensor_bytes=300, batches=3)
    evidence = SimpleNamespace(store=None, nic=SimpleNamespace(rx_bytes=None))
    epoch = conductor._epoch(training, looped, 0.02, _Cost(), evidence)
    assert epoch.step_seconds == pytest.approx(0.04)
    assert epoch.utilisation == pytest.approx(0.04 / 0.522)
    assert epoch.samples_per_second == pytest.approx(8 / 0.522)
