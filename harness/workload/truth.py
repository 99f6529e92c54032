"""What the arrays of a workload must hold, as checksums: where they come from, and the comparison."""

import base64
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import google_crc32c
import msgspec
import numpy as np
import numpy.typing as npt

from harness.errors import MeasurementError, WrongDataError
from harness.workload.patterns import selection_shape
from harness.workload.placement import Slices
from harness.workload.selections import pieces

if TYPE_CHECKING:
    from harness.datasets.array import ArrayInfo


Chunk = tuple[int, ...]
Array = npt.NDArray[Any]


class Truth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the arrays must hold: one of three lists of CRC32C, as base64 of little-endian uint32.

    Raises
    ------
    ValueError
        More than one list, or none.
    """

    decoded_crc32c: str | None = None
    """Of each wanted chunk's decoded bytes, read by read, chunks in C order: where chunks are wanted whole."""
    reads_crc32c: str | None = None
    """Of each read's whole array, C order: where chunks are wanted in part, or nothing is known of chunks. Of a stream,
    of each window's."""
    windows_crc32c: str | None = None
    """Of each window of a stream: CRC32C of the CRC32C of its chunks' decoded bytes, each as little-endian uint32,
    chunks in C order."""
    agreed_by: tuple[str, ...] = ()
    """The readers that agree on it where the array has no manifest; empty where the manifest says it."""

    def __post_init__(self) -> None:
        """Refuse a truth that says nothing, or the same twice."""
        lists = (self.decoded_crc32c, self.reads_crc32c, self.windows_crc32c)
        if sum(one is not None for one in lists) != 1:
            raise ValueError("a truth holds exactly one of decoded_crc32c, reads_crc32c and windows_crc32c")


UNKNOWN = Truth(reads_crc32c="")
"""Of a workload that is not yet complete."""


def check(truth: Truth) -> None:
    """Refuse checksums that are not base64 of whole numbers; a ValueError says so."""
    for packed in filter(None, (truth.decoded_crc32c, truth.reads_crc32c, truth.windows_crc32c)):
        try:
            whole = len(base64.b64decode(packed, validate=True)) % 4 == 0
        except ValueError:
            whole = False
        if not whole:
            raise ValueError("its checksums are not base64 of uint32")


def verify(
    truth: Truth, array: "ArrayInfo", reads: Sequence[Slices], arrays: Sequence[Array], *, first: int = 0
) -> None:
    """Compare the arrays a reader returned with the truth.

    Parameters
    ----------
    first
        Number of the first read, for messages: of a stream, of the first window.

    Raises
    ------
    WrongDataError
        A wrong number, shape, dtype or element; the message names the first bad read or chunk.
    MeasurementError
        The truth is not one of these reads.
    """
    _check_shapes(array, reads, arrays)
    if truth.decoded_crc32c is not None:
        _verify_chunks(truth.decoded_crc32c, array, reads, arrays)
    elif truth.reads_crc32c is not None:
        _verify_reads(truth.reads_crc32c, array, reads, arrays, first)
    elif truth.windows_crc32c is not None:
        _verify_windows(truth.windows_crc32c, array, reads, arrays, first)


def checksums(array: "ArrayInfo", reads: Sequence[Slices], arrays: Sequence[Array]) -> str:
    """Return the checksums of whole arrays, as `Truth.reads_crc32c` has them.

    Raises
    ------
    WrongDataError
        A wrong number, shape or dtype.
    """
    _check_shapes(array, reads, arrays)
    return pack(map(crc32c, arrays))


def known_reads(truth: Truth) -> list[int]:
    """Return the CRC32C of each read's array, of a truth that has them; else none."""
    return unpack(truth.reads_crc32c or "")


def first_difference(one: str, other: str) -> int | None:
    """Return the first read in which two lists of checksums differ; None when they are equal."""
    pairs = itertools.zip_longest(unpack(one), unpack(other))
    return next((number for number, (left, right) in enumerate(pairs) if left != right), None)


def _check_shapes(array: "ArrayInfo", reads: Sequence[Slices], arrays: Sequence[Array]) -> None:
    if len(arrays) != len(reads):
        raise WrongDataError(f"{len(arrays)} arrays returned for {len(reads)} reads")
    dtype = np.dtype(array.dtype)
    for read, got in zip(reads, arrays, strict=True):
        shape = selection_shape(read)
        if got.shape != shape or got.dtype.newbyteorder("=") != dtype:
            raise WrongDataError(f"got {got.dtype}{got.shape}, expected {dtype}{shape}")


def _verify_chunks(packed: str, array: "ArrayInfo", reads: Sequence[Slices], arrays: Sequence[Array]) -> None:
    known = iter(unpack(packed))
    size = math.prod(array.chunk_shape)
    for read, got in zip(reads, arrays, strict=True):
        for piece in pieces(read, array.chunk_shape):
            part = got[piece.in_read]
            if part.size != size:
                raise MeasurementError(f"chunk {piece.chunk} is only wanted in part: its checksum cannot be compared")
            crc = next(known, None)
            if crc is None:
                raise MeasurementError("the workload's reads touch more chunks than its truth names")
            if crc32c(part) != crc:
                raise WrongDataError(
                    f"chunk {piece.chunk} of {array.key} is wrong: its decoded bytes do not match the manifest"
                )
    if next(known, None) is not None:
        raise MeasurementError("the workload names more chunks than its reads touch")


def of_window(chunks: Iterable[int]) -> int:
    """Return what a stream's truth says of a window whose chunks have these CRC32C, in C order."""
    crc: int = google_crc32c.value(np.fromiter(chunks, "<u4").tobytes())
    return crc


def _verify_windows(
    packed: str, array: "ArrayInfo", windows: Sequence[Slices], arrays: Sequence[Array], first: int
) -> None:
    known = unpack(packed)
    if len(known) != len(windows):
        raise MeasurementError(f"the workload's truth names {len(known)} windows for {len(windows)}")
    for number, (window, got, crc) in enumerate(zip(windows, arrays, known, strict=True), start=first):
        if of_window(crc32c(got[piece.in_read]) for piece in pieces(window, array.chunk_shape)) != crc:
            raise WrongDataError(
                f"window {number} of {array.key}, [{_text(window)}], is wrong: "
                "the decoded bytes of its chunks do not match the manifest"
            )


def _verify_reads(
    packed: str, array: "ArrayInfo", reads: Sequence[Slices], arrays: Sequence[Array], first: int
) -> None:
    known = unpack(packed)
    if len(known) != len(reads):
        raise MeasurementError(f"the workload's truth names {len(known)} arrays for {len(reads)} reads")
    for number, (read, got, crc) in enumerate(zip(reads, arrays, known, strict=True), start=first):
        if crc32c(got) != crc:
            raise WrongDataError(
                f"read {number} of {array.key}, [{_text(read)}], is wrong: "
                "the bytes of its array do not match the workload's truth"
            )


def _text(read: Slices) -> str:
    return ", ".join(f"{a}:{b}" if step == 1 else f"{a}:{b}:{step}" for a, b, step in read)


def little_endian(dtype: str) -> np.dtype[Any]:
    """Return a type as its elements are stored and checksummed."""
    return np.dtype(dtype).newbyteorder("<")


def crc32c(array: Array) -> int:
    """Return the CRC32C of an array's elements in C order, little-endian whatever the byte order of the array."""
    crc: int = google_crc32c.value(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return crc


def pack(crcs: Iterable[int]) -> str:
    """Return checksums as a truth holds them: base64 of little-endian uint32."""
    return base64.b64encode(np.fromiter(crcs, "<u4").tobytes()).decode()


def unpack(packed: str) -> list[int]:
    """Return what `pack` packed."""
    values: list[int] = np.frombuffer(base64.b64decode(packed), "<u4").tolist()
    return values
