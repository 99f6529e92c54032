"""What is made of an epoch that a worker's stopwatch saw."""

from copy import deepcopy
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


class Modelled(conductor._Asked):
    """An arm whose epochs are computed: how busy a step of so many seconds is."""

    def __init__(self, busy):
        self._busy = busy

    def _epoch(self, arm, number, step_ms, device=None, *, log=False):
        return SimpleNamespace(utilisation=self._busy(step_ms / 1e3))


@pytest.mark.parametrize(
    ("busy", "shortest", "precision"),
    [
        (lambda step: min(1.0, step / 0.010), 0.009, 2 ** (1 / 32)),  # batches come every 10 ms, whatever the step
        (lambda step: step / (step + 0.010), 0.090, 2 ** (1 / 4)),  # each waits for 10 ms: four doublings are first
    ],
)
def test_the_shortest_step_is_found_from_above(busy, shortest, precision):
    unpaused = SimpleNamespace(seconds=0.2, waits=[0.010] * 20)
    found = Modelled(busy)._shortest_step("an arm", 0, unpaused)
    assert busy(found) >= conductor.FED
    assert shortest <= found <= shortest * precision * (1 + 1e-9)


def test_an_arm_that_keeps_no_step_busy_has_no_shortest_one():
    unpaused = SimpleNamespace(seconds=0.2, waits=[0.010] * 20)
    assert Modelled(lambda _: 0.5)._shortest_step("an arm", 0, unpaused) is None


@pytest.mark.parametrize("runs", [0, 1, 2])
def test_a_run_that_ctrl_c_ended_leaves_none_of_its_epochs(runs):
    epochs = [f"run {run}, epoch {number}" for run in range(2) for number in range(3)]
    done = conductor.Fed(arm="an arm", epochs=epochs[: 3 * runs], unpaused=["without a step"] * runs)
    done.at_steps, done.shortest_step = ({5.0: ["5 ms"] * runs} if runs else {}), [0.01] * runs
    row = deepcopy(done)
    row.epochs += ["run 2, epoch 0"]
    row.keep(runs, 3)
    assert row == done
    row.epochs += ["run 2, epoch 0", "epoch 1", "epoch 2"]
    row.unpaused.append("of run 2")
    row.at_steps.setdefault(5.0, []).append("of run 2")
    row.keep(runs, 3)
    assert row == done
