"""The processing that all arms have in common: normalised, and exact both ways."""

import numpy as np
import pytest

from harness.train.tensors import process, restored


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_every_integer_comes_back(dtype):
    info = np.iinfo(dtype)
    crop = np.arange(info.min, info.max + 1, dtype=dtype)
    tensor = np.empty(crop.shape, np.float32)
    process(crop, tensor)
    assert np.abs(tensor).max() <= 1
    assert len(np.unique(tensor)) == crop.size
    back = restored(tensor, crop.dtype)
    assert back.dtype == crop.dtype
    assert np.array_equal(back, crop)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_floats_stay_as_they_are(dtype):
    crop = np.array([0.0, -0.0, 1.5, np.inf, 6e-8], dtype)
    tensor = np.empty(crop.shape, np.float32)
    process(crop, tensor)
    assert tensor.tolist() == crop.astype(np.float32).tolist()
    assert restored(tensor, crop.dtype).tobytes() == crop.tobytes()
