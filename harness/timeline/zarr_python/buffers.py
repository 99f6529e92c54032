"""Buffers that remember where their bytes came from, so that a copy can be told which chunk it copies.

They go in through zarr's ``buffer`` and ``ndbuffer`` settings. A prototype passed with a call would not do: the
sharding codec takes the configured one.
"""

from threading import get_ident
from typing import Any, ClassVar, Self, override

import numpy.typing as npt
from zarr.core.buffer import cpu

from harness.timeline.zarr_python.events import Chunk, Get, now


class RecordedBuffer(cpu.Buffer):
    """Bytes that know their request and their offset in the stored object, through slicing."""

    get: Get | None = None
    offset = 0
    chunk: Chunk | None = None
    born_ns: int | None = None
    """Made from bytes: for a codec that decodes in a thread of its own, when it was done."""

    @override
    def __getitem__(self, key: slice) -> Self:
        part = super().__getitem__(key)
        if self.get is not None:
            part.get, part.offset = self.get, self.offset + key.indices(len(self))[0]
        part.chunk = self.chunk
        return part

    @override
    def as_numpy_array(self) -> npt.NDArray[Any]:
        chunk = self.chunk
        if chunk is not None and chunk.thread is None:  # the first touch by the thread that decodes
            chunk.decode_start_ns, chunk.thread = now(), get_ident()
        return super().as_numpy_array()

    @override
    @classmethod
    def from_bytes(cls, bytes_like: Any) -> Self:
        made = super().from_bytes(bytes_like)
        made.born_ns = now()
        return made


class RecordedNDBuffer(cpu.NDBuffer):
    """An array that knows which chunk it is, or which chunks were copied into it."""

    chunk: Chunk | None = None
    members: list[Chunk] | None = None
    final = False
    """Whether this is the array that the caller gets."""
    untold: list[tuple[int, tuple[int, int]]] | None = None
    """Of a final array: copies of unknown chunks, as (id of the selection, when)."""
    strays: ClassVar[list[tuple[int, int]]] = []
    """Copies made by a pipeline that is not recorded; every recorder's subclass has its own list."""

    def _carry(self, to: Self) -> Self:
        to.chunk, to.members = self.chunk, self.members
        return to

    @override
    def __getitem__(self, key: Any) -> Self:
        return self._carry(super().__getitem__(key))

    @override
    def reshape(self, newshape: Any) -> Self:
        return self._carry(super().reshape(newshape))

    @override
    def squeeze(self, axis: tuple[int, ...]) -> Self:
        return self._carry(super().squeeze(axis))

    @override
    def transpose(self, axes: Any) -> Self:
        return self._carry(super().transpose(axes))

    @override
    def astype(self, dtype: Any, order: Any = "K") -> Self:
        return self._carry(super().astype(dtype, order))

    @override
    def __setitem__(self, key: Any, value: Any) -> None:
        start_ns = now()
        super().__setitem__(key, value)
        if isinstance(value, RecordedNDBuffer):
            self._copied(key, value, (start_ns, now()))

    def _copied(self, key: Any, value: "RecordedNDBuffer", when: tuple[int, int]) -> None:
        chunk = value.chunk
        if self.final:
            if chunk is not None:
                chunk.copied = when
            elif value.members is not None:
                for chunk in value.members:
                    chunk.copied = when
            else:
                self.__dict__.setdefault("untold", []).append((id(key), when))
            return
        if chunk is not None:
            chunk.shard_copied = when
            self.__dict__.setdefault("members", []).append(chunk)
        elif value.members is None:
            self.strays.append(when)
        else:
            self.__dict__.setdefault("members", []).extend(value.members)
