"""The truth field: the committed vectors, boxes that agree with each other, and how well it compresses."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numcodecs.zstd import Zstd

from harness.datasets.manifest import DTYPES
from setup_data import field
from setup_data.field import Field

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "field.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['seed']}-{v['dtype']}-{v['start']}")
def test_vectors_that_rust_reads_too(vector):
    box = Field(vector["seed"], vector["dtype"]).box(tuple(vector["start"]), tuple(vector["shape"]))
    assert box.dtype.name == vector["dtype"]
    assert box.astype(box.dtype.newbyteorder("<")).tobytes().hex() == vector["hex"]


def test_vectors_cover_every_dtype():
    assert {vector["dtype"] for vector in VECTORS} == set(DTYPES)


@given(
    seed=st.integers(0, 2**64 - 1),
    dtype=st.sampled_from(DTYPES),
    start=st.lists(st.integers(0, 2**40), min_size=1, max_size=4),
    data=st.data(),
)
def test_a_box_is_made_of_its_elements(seed, dtype, start, data):
    shape = tuple(data.draw(st.integers(1, 5)) for _ in start)
    at = tuple(data.draw(st.integers(0, length - 1)) for length in shape)
    truth = Field(seed, dtype)
    element = truth.box(tuple(a + b for a, b in zip(start, at, strict=True)), (1,) * len(shape))
    assert truth.box(tuple(start), shape)[at] == element.item()


@pytest.mark.parametrize(("start", "shape"), [((5, 3), (40, 301)), ((2,), (1000,)), ((1, 2, 3), (3, 50, 33))])
def test_tiles_do_not_show(monkeypatch, start, shape):
    whole = Field(9, "int32").box(start, shape)
    monkeypatch.setattr(field, "_TILE", 16)
    assert np.array_equal(Field(9, "int32").box(start, shape), whole)


def test_every_dtype_holds_the_same_numbers():
    boxes = {dtype: Field(4, dtype).box((3, 60, 60), (2, 30, 30)) for dtype in DTYPES}
    numbers = boxes["uint16"].astype(np.int64)
    for dtype, box in boxes.items():
        expected = numbers >> 8 if box.itemsize == 1 else numbers
        if box.dtype.kind != "u":
            expected = expected - (1 << 7 if box.itemsize == 1 else 1 << 15)
        assert np.array_equal(box, expected / 64 if box.dtype.kind == "f" else expected), dtype


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("chunk", [(1, 128, 128), (1, 512, 1024)], ids=["small", "large"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_zstd_compresses_it_as_it_does_real_data(chunk, level, seed):
    truth, codec = Field(seed, "uint16"), Zstd(level)
    starts = [(t, y * 1024, x * 1024) for t in (0, 40) for y in range(2) for x in range(2)]
    boxes = [truth.box(start, chunk) for start in starts]
    ratio = sum(box.nbytes for box in boxes) / sum(len(codec.encode(box)) for box in boxes)
    assert 1.5 < ratio < 4


def test_noise_is_level_and_shows_no_pattern():
    noise = field._noise(Field(0, "uint16")._rows((0,), (256,))[1], 0, 1024) >> 4
    counts = np.bincount(noise.reshape(-1), minlength=127)
    triangle = noise.size * (64 - abs(np.arange(127) - 63)) / 4096
    assert np.sum((counts - triangle) ** 2 / triangle) < 126 + 5 * np.sqrt(2 * 126)  # chi-squared, 5 sigma
    centred = noise - noise.mean()
    for step in ((0, 1), (0, 2), (0, 4), (1, 0), (1, 1), (2, 4)):
        moved = np.roll(centred, step, (0, 1))
        assert abs(np.mean(centred * moved)) / centred.var() < 5 / np.sqrt(noise.size), step
