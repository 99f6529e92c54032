"""What is done to a crop before it is part of a batch: the light processing that every arm has in common.

Integers become float32 between -1 and 1 by a subtraction and a multiplication with a power of two. Both are exact, so
that the crop can be had back bit by bit, and each sample of a batch is checked against the truth that readers are.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Crop = npt.NDArray[Any]
Tensor = npt.NDArray[np.float32]


def process(crop: Crop, out: Tensor) -> None:
    """Write a crop, normalised, into its place in a batch.

    Parameters
    ----------
    crop
        Of one of the types that `harness.workload.training` lets in.
    out
        Of the crop's shape.
    """
    out[...] = crop
    if crop.dtype.kind != "f":
        offset, scale = _range(crop.dtype)
        out -= np.float32(offset)
        out *= np.float32(scale)


def restored(tensor: Tensor, dtype: np.dtype[Any]) -> Crop:
    """Return the crop that `process` was given; exact."""
    if dtype.kind == "f":  # to add nothing would lose the sign of a zero
        return tensor.astype(dtype)
    offset, scale = _range(dtype)
    return (tensor / np.float32(scale) + np.float32(offset)).astype(dtype)


def _range(dtype: np.dtype[Any]) -> tuple[int, float]:
    """Return what to subtract of an integer, and what to multiply with after it."""
    info = np.iinfo(dtype)
    half = 2 ** (info.bits - 1)
    return half + int(info.min), 1 / half
