"""The truth: a seeded field whose every element follows from its coordinates, in integers only.

It looks like a 12-bit sensor's image of something smooth: a long and a short wave along each axis, plus
noise. ``docs/data.md`` defines it for any language, and ``tests/vectors/field.json`` holds this file to that.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIER = 0xD6E8FEB86659FD93
_WAVES = ((60, 600, 400), (12, 40, 50))
"""Of each wave along an axis: amplitude in levels, least period in elements, range of periods."""

_LANES = 4  # 16-bit noise lanes of one 64-bit hash
_TILE = 1 << 15  # hashes computed at once: a tile's temporaries (about 0.8 MiB) stay in a core's own cache

U16 = npt.NDArray[np.uint16]
U64 = npt.NDArray[np.uint64]
Box = npt.NDArray[np.generic]


class Field:
    """The truth field of one array.

    Parameters
    ----------
    seed
        0 to 2**64 - 1.
    dtype
        numpy's name of any of `harness.datasets.manifest.DTYPES`.
    """

    def __init__(self, seed: int, dtype: str) -> None:
        self._seed = seed
        self._dtype = np.dtype(dtype)

    def box(self, start: tuple[int, ...], shape: tuple[int, ...]) -> Box:
        """Return the field's values in a box of the array.

        Parameters
        ----------
        start
            Coordinates of the box's first element.
        shape
            Elements per axis, each at least 1.

        Returns
        -------
        numpy.ndarray
            Array of `shape` and the field's dtype.
        """
        out = np.empty(shape, self._dtype)
        rows = out.reshape(-1, shape[-1])
        row_levels, row_keys = self._rows(start[:-1], shape[:-1])
        column_levels = self._levels(len(shape) - 1, start[-1], shape[-1])
        for r, c in _tiles(len(rows), shape[-1]):
            noise = _noise(row_keys[r], start[-1] + c.start, c.stop - c.start)
            noise += row_levels[r, None]
            noise += column_levels[c]
            _convert(noise, rows[r, c])
        return out

    def _rows(self, start: tuple[int, ...], shape: tuple[int, ...]) -> tuple[U16, U64]:
        """Return the level (with the mean) and the hash key of each row: of all axes but the last."""
        levels = np.full((1,) * len(shape), 2048 << 4, np.uint16)
        keys = np.full((1,) * len(shape), mix(self._seed), np.uint64)
        for axis, (first, length) in enumerate(zip(start, shape, strict=True)):
            along = (-1, *(1,) * (len(shape) - axis - 1))
            levels = levels + self._levels(axis, first, length).reshape(along)
            keys = _mixed(keys ^ _counter(first, length).reshape(along))
        return levels.reshape(-1), keys.reshape(-1)

    def _levels(self, axis: int, start: int, length: int) -> U16:
        """Return the waves along `axis`, 16 a level, modulo 2**16 (with the mean, the sum stays within)."""
        total = np.zeros(length, np.int64)
        for number, (amplitude, least, spread) in enumerate(_WAVES):
            draw = mix(self._seed + (len(_WAVES) * axis + number + 1) * GOLDEN)
            step = MASK // (least + (draw >> 32) % spread)
            turn = _counter(start, length, step) + np.uint64(mix(draw))
            half = ((turn >> np.uint64(48)) & np.uint64(0x7FFF)).astype(np.int64)
            height = ((half * (0x8000 - half) >> 13) * amplitude) >> 15
            total += np.where(turn >> np.uint64(63), -height, height)
        return (total << 4).astype(np.uint16)


def mix(value: int) -> int:
    """Return a well-mixed 64-bit hash of `value`, taken modulo 2**64."""
    value &= MASK
    value = ((value ^ value >> 32) * _MULTIPLIER) & MASK
    value = ((value ^ value >> 32) * _MULTIPLIER) & MASK
    return value ^ value >> 32


def _mixed(values: U64) -> U64:
    for _ in range(2):
        values = (values ^ values >> np.uint64(32)) * np.uint64(_MULTIPLIER)
    return values ^ values >> np.uint64(32)


def _counter(start: int, length: int, step: int = GOLDEN) -> U64:
    """Return ``(start + i) * step`` modulo 2**64 for i below `length`."""
    return np.arange(length, dtype=np.uint64) * np.uint64(step) + np.uint64(start * step & MASK)


def _noise(keys: U64, start: int, length: int) -> U16:
    """Return the noise of `length` columns from `start` for the rows with these `keys`, of that shape.

    Each 64-bit hash serves four columns, so that a hash costs an element a quarter.
    """
    first = start // _LANES
    hashes = keys[:, None] + _counter(first, -(-(start + length) // _LANES) - first)
    hashes ^= hashes >> np.uint64(32)
    hashes *= np.uint64(_MULTIPLIER)
    lanes = hashes.astype("<u8", copy=False).view("<u2").astype(np.uint16, copy=False)
    # Two 6-bit draws of a lane, in steps of a level (16): nearer to a sensor's noise than a single draw.
    noise = lanes >> np.uint16(6)
    noise &= np.uint16(0x3F0)
    lanes &= np.uint16(0x3F0)
    noise += lanes
    skip = start - first * _LANES
    return noise[:, skip : skip + length]


def _convert(numbers: U16, out: Box) -> None:
    """Write `numbers` into `out` as its dtype has them: exactly, but 8 bits keep the upper half."""
    kind, itemsize = out.dtype.kind, out.dtype.itemsize
    if itemsize == 1:
        numbers = numbers >> np.uint16(8)
    if kind == "u":
        out[...] = numbers
    elif kind == "i":
        np.subtract(numbers, 128 if itemsize == 1 else 1 << 15, out=out, dtype=np.int32, casting="unsafe")
    else:
        np.subtract(numbers, 1 << 15, out=out, dtype=out.dtype)
        np.multiply(out, 1 / 64, out=out)


def _tiles(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Cut `rows` x `columns` into tiles of about `_TILE` hashes, full rows first."""
    width = min(columns, _LANES * _TILE)
    height = max(1, _LANES * _TILE // width)
    for r in range(0, rows, height):
        for c in range(0, columns, width):
            yield slice(r, min(r + height, rows)), slice(c, min(c + width, columns))
