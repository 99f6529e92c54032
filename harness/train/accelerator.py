"""A step on a device that torch knows: a copy from pinned memory, and a small convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import BadUseError

if TYPE_CHECKING:
    from harness.train.batches import Batch

_FILTERS, _KERNEL = 16, 3


def require_gpu() -> None:
    """Raise a BadUseError where torch sees no GPU."""
    try:
        import torch
    except (ImportError, OSError, ValueError) as error:  # it loads CUDA's libraries in ways of its own
        raise BadUseError(
            f"a step on a GPU needs torch, which cannot be imported ({error}): pip install '.[torch]'"
        ) from error
    if not torch.cuda.is_available():
        raise BadUseError("a step on a GPU needs one, and torch sees none here: --step pause stands for it")


class DeviceStep:
    """What a training step asks of a device, without its model: each tensor is copied there and convolved.

    A convolution has the last two axes of a crop as its plane and those before them as channels. The first batch takes
    long: memory is pinned, and the device's library chooses how to convolve.

    Parameters
    ----------
    device
        As torch names it, e.g. ``cuda``; anything but a GPU has no pinned memory and no events.
    """

    def __init__(self, device: str) -> None:
        import torch

        self._torch: Any = torch
        self._device = torch.device(device)
        self._is_gpu = self._device.type == "cuda"
        self._pinned: list[Any] = []
        self._weights: list[Any] = []
        self.device_seconds: list[float] = []
        """Of each step, from an event before its copies to one after its convolutions; empty on anything but a GPU."""

    def stage(self, batch: Batch) -> None:
        """Put a batch into pinned memory, as a loader that pins does before it hands it over."""
        torch = self._torch
        if not self._pinned:
            self._pinned = [torch.empty(tensor.shape, pin_memory=self._is_gpu) for tensor in batch]
            self._weights = [self._filters(tensor.shape) for tensor in batch]
        for pinned, tensor in zip(self._pinned, batch, strict=True):
            pinned.copy_(torch.from_numpy(tensor))

    def __call__(self, _: Batch) -> None:
        """Copy and convolve the batch that was staged last, and return when the device is through."""
        if not self._is_gpu:
            self._convolve()
            return
        begin, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        self._convolve()
        end.record()
        self._torch.cuda.synchronize(self._device)
        self.device_seconds.append(begin.elapsed_time(end) / 1e3)

    def _convolve(self) -> None:
        with self._torch.no_grad():
            for pinned, weights in zip(self._pinned, self._weights, strict=True):
                planes = pinned.to(self._device, non_blocking=True).reshape(_planes(pinned.shape))
                self._torch.nn.functional.conv2d(planes, weights, padding="same")

    def _filters(self, shape: tuple[int, ...]) -> Any:
        channels = _planes(shape)[1]
        return self._torch.full((_FILTERS, channels, _KERNEL, _KERNEL), 1 / (channels * _KERNEL**2)).to(self._device)


def _planes(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the shape of a batch of ``(samples, *crop)`` as samples, channels, and a plane."""
    samples, *axes = shape
    height, width = [1, 1, *axes][-2:]
    channels = 1
    for length in axes[:-2]:
        channels *= length
    return samples, channels, height, width
