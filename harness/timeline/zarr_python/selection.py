"""Which chunks of a shard a selection touches, from zarr's own selections."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

_SEPARATORS = re.compile(r"[/.]")


def shard_coordinates(key: str, ndim: int) -> tuple[int, ...]:
    """Return the coordinates in an object's key, e.g. (0, 1, 2) for ``a/c/0/1/2`` or ``0.1.2``."""
    return tuple(int(part) for part in _SEPARATORS.split(key)[-ndim:]) if ndim else ()


def inner_chunks(selection: Any, shape: Sequence[int], chunk_shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the positions inside a shard of the chunks that `selection` touches.

    Parameters
    ----------
    selection
        Per axis a slice, an integer or an array, arrays broadcasting against each other as numpy's do.
    shape
        Shape of the shard.
    chunk_shape
        Shape of its chunks.
    """
    parts = selection if isinstance(selection, tuple) else (selection,)
    axes = [_touched(part, *sizes) for part, *sizes in zip(parts, shape, chunk_shape, strict=True)]
    if any(isinstance(part, np.ndarray) and part.ndim for part in parts):
        spread = np.broadcast_arrays(*_open_mesh(parts, axes))
        yield from sorted({tuple(map(int, at)) for at in zip(*(a.ravel() for a in spread), strict=True)})
        return
    yield from itertools.product(*(np.unique(axis).tolist() for axis in axes))


def _touched(part: Any, size: int, chunk: int) -> Any:
    if isinstance(part, slice):
        return np.unique(np.arange(*part.indices(size)) // chunk)
    part = np.asarray(part)
    return (np.flatnonzero(part) if part.dtype == bool else part) // chunk


def _open_mesh(parts: Sequence[Any], axes: Sequence[Any]) -> list[Any]:
    """Give axes taken by slices a dimension of their own, so that they combine with everything."""
    slices = [i for i, part in enumerate(parts) if isinstance(part, slice)]
    mesh = []
    for i, axis in enumerate(axes):
        if i in slices:
            own = [1] * len(slices)
            own[slices.index(i)] = len(axis)
            mesh.append(axis.reshape(own))
        else:
            mesh.append(axis.reshape(axis.shape + (1,) * len(slices)))
    return mesh
