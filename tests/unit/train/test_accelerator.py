"""A step on a device: what it copies and convolves, on torch's own CPU device; and what is said without a GPU."""

import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest

from harness.errors import BadUseError
from harness.train import loop
from harness.train.accelerator import DeviceStep, require_gpu

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="no torch: pip install '.[torch]'")


def batch(number, shape=(2, 3, 8, 8)):
    return (np.full(shape, number, np.float32),)


@needs_torch
@pytest.mark.parametrize("crop", [(5,), (8, 8), (3, 8, 8), (2, 3, 8, 8)])
def test_what_was_staged_last_is_convolved_whatever_a_crop_has_for_axes(crop, monkeypatch):
    import torch

    seen = []
    convolve = torch.nn.functional.conv2d

    def spy(planes, weights, **options):
        seen.append(convolve(planes, weights, **options))
        return seen[-1]

    monkeypatch.setattr(torch.nn.functional, "conv2d", spy)
    step = DeviceStep("cpu")
    for number in (1, 2):
        made = batch(number, (2, *crop))
        step.stage(made)
        step(made)
    first, second = seen
    assert first.shape[:2] == (2, 16)
    assert torch.equal(2 * first, second)
    middle = tuple(length // 2 for length in second.shape[2:])
    if len(crop) > 1:
        assert float(second[0, 0][middle]) == pytest.approx(2)  # filters that take the mean of their window
    assert step.device_seconds == []  # a CPU has no events


@needs_torch
def test_two_data_sets_are_both_convolved(monkeypatch):
    import torch

    seen = []
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda planes, *_, **__: seen.append(tuple(planes.shape)))
    step = DeviceStep("cpu")
    both = (*batch(1), *batch(2, (2, 8, 8)))
    step.stage(both)
    step(both)
    assert seen == [(2, 3, 8, 8), (2, 1, 8, 8)]


@needs_torch
def test_a_batch_is_left_as_it_was():
    step, made = DeviceStep("cpu"), batch(3)
    step.stage(made)
    step(made)
    assert np.array_equal(made[0], batch(3)[0])


def test_staging_is_waited_for_and_the_step_is_not():
    def batches():
        for number in range(3):
            yield batch(number)

    looped, _ = loop.feed(batches(), lambda _: None, stage=lambda _: time.sleep(0.05))
    assert min(looped.waits) >= 0.05 > max(looped.steps)


def test_without_torch_a_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        BadUseError, match=r"needs torch, which cannot be imported .*pip install '\.\[torch\]'"
    ) as found:
        require_gpu()
    assert found.value.exit_code == 2


@needs_torch
def test_without_a_gpu_a_line_says_so(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadUseError, match="torch sees none here: --step pause stands for it"):
        require_gpu()


@needs_torch
def test_on_a_gpu_events_agree_with_our_clock():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    step = DeviceStep("cuda")
    looped, _ = loop.feed((batch(n, (16, 4, 128, 128)) for n in range(40)), step, stage=step.stage)
    by_events = step.device_seconds[1:]
    assert len(by_events) == len(looped.steps)
    assert sum(by_events) / looped.seconds == pytest.approx(sum(looped.steps) / looped.seconds, abs=0.03)
