"""Streams: a read of any size, executed window by window in bounded memory, again and again until it lasts."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from harness.datasets.array import ArrayInfo
from harness.errors import BadUseError
from harness.store import state
from harness.targets.target import Target
from harness.workload import truth as truths
from harness.workload.model import MOST_LOOPS, MOST_WINDOWS, Stream, Workload, check_memory, selected_bytes
from harness.workload.placement import Slices
from harness.workload.selections import chunks_touched
from harness.workload.truth import Truth

if TYPE_CHECKING:
    from harness.datasets.manifest import Crcs  # workers import this module, and load no obstore that is not theirs

DEFAULT_WINDOW_MIB = 256
DEFAULT_SECONDS = 10.0

_UNKNOWN_LINK_GBIT_S = 10.0
"""Taken for the network's rate where nobody tells it: a stream over a faster one is shorter than was asked for."""
_MOST_WINDOW_BYTES = 1 << 32

Lengths = tuple[int, ...]
"""Of a box, along each axis."""


class StoredBytes(NamedTuple):
    """What is stored of the objects that a read touches; uint64 of the shape of their grid."""

    wanted: npt.NDArray[np.uint64]
    """Bytes of the wanted chunks of each object."""
    objects: npt.NDArray[np.uint64]
    """Bytes of each object; 0 of one whose size nobody told."""


class Step(NamedTuple):
    """What a stream's reader executes at once."""

    first: int
    """Number of its first window in the loop."""
    work: Workload
    """One read for each of its windows; no stream."""


def planned(draft: Workload) -> Workload:
    """Return a stream whose window and extent are settled: boxes of whole objects.

    Raises
    ------
    BadUseError
        The windows that are under way at once do not fit into memory.
    """
    array, asked = draft.array, draft.parameters
    extent = array.shape if asked.gib is None else _box(array, array.shape, asked.gib * 2**30, math.ceil)
    window_mib = DEFAULT_WINDOW_MIB if asked.window_mib is None else asked.window_mib
    made = msgspec.structs.replace(
        draft,
        reads=(tuple((0, length, 1) for length in extent),),
        stream=Stream(window=_box(array, extent, window_mib << 20, math.floor), wanted_bytes=""),
    )
    check_memory(made.at_once_bytes)
    return made


def _box(array: ArrayInfo, within: Lengths, nbytes: float, whole: Callable[[float], int]) -> Lengths:
    """Return the lengths of a box of whole objects of about so many bytes, at least one: rows first, as C order has it.

    Parameters
    ----------
    within
        Lengths that it does not exceed.
    nbytes
        Of decoded elements.
    whole
        What makes a number of objects along an axis of a part of it: up or down.
    """
    box = list(map(min, array.shard_shape, within))
    for axis in reversed(range(len(box))):
        fit = whole(nbytes / (math.prod(box) * np.dtype(array.dtype).itemsize))
        box[axis] = min(within[axis], max(1, fit) * array.shard_shape[axis])
        if box[axis] < within[axis]:
            break
    return tuple(box)


def counted(draft: Workload, stored: StoredBytes, decoded_crc32c: "Crcs | None") -> Workload:
    """Return a planned stream with what it comes to, its loops, and its truth where there is a manifest.

    Parameters
    ----------
    draft
        What `planned` returned.
    stored
        Of all objects that it touches.
    decoded_crc32c
        The manifest's CRC32C of all of the array's chunks, uint32 of the shape of their grid; None leaves the truth
        unknown.

    Raises
    ------
    BadUseError
        A window of 4 GiB or more where it is stored, or more windows in all than an execution may have.
    """
    array, read = draft.array, draft.reads[0]
    wanted, objects = (_by_window(draft, of) for of in stored)
    if int(wanted.max()) >= _MOST_WINDOW_BYTES:
        raise BadUseError(f"a window of {int(wanted.max()) / 2**30:.1f} GiB stored: choose a smaller --window-mib")
    once = selected_bytes(array, draft.reads)
    loops = _loops(draft, once, int(wanted.sum()))
    if loops > MOST_LOOPS or loops * draft.windows > MOST_WINDOWS:
        raise BadUseError(
            f"{loops} loops of {draft.windows} windows are more than can be timed one by one: ask for less by --gib or "
            "--seconds, or read a larger array"
        )
    known = bool(stored.objects.all())
    held = objects if known else wanted
    made = msgspec.structs.replace(
        draft,
        stream=Stream(window=_stream(draft).window, loops=loops, wanted_bytes=truths.pack(wanted.tolist())),
        array_bytes=loops * once,
        wanted_chunks=loops * chunks_touched(read, array.chunk_shape),
        wanted_bytes=loops * int(wanted.sum()),
        least_bytes=0 if "sharding_indexed" in array.codec.split("+") else loops * int(wanted.sum()),
        held_bytes=int(np.sort(held)[-draft.concurrent_reads :].sum()),
        object_bytes=int(objects.sum()) if known else 0,
        wanted_shards=stored.wanted.size,
    )
    check_memory(made.at_once_bytes, made.held_bytes)
    if decoded_crc32c is None:
        return made
    crcs = (truths.of_window(decoded_crc32c[_chunks(array, window)].ravel()) for window in windows(made))
    return msgspec.structs.replace(made, truth=Truth(windows_crc32c=truths.pack(crcs)))


def windows(workload: Workload) -> list[Slices]:
    """Return the windows of one loop of a stream, in their order: C order."""
    along = zip(workload.reads[0], _stream(workload).window, strict=True)
    cuts = ([(at, min(at + size, stop), 1) for at in range(start, stop, size)] for (start, stop, _), size in along)
    return list(itertools.product(*cuts))


def _chunks(array: ArrayInfo, window: Slices) -> tuple[slice, ...]:
    """Return which chunks of the array's grid are a window's."""
    along = zip(window, array.chunk_shape, strict=True)
    return tuple(slice(start // length, math.ceil(stop / length)) for (start, stop, _), length in along)


def steps(workload: Workload) -> Iterator[Step]:
    """Yield what one loop of a stream executes: one window after another, or two at once.

    Each is a workload by itself, so that a reader needs to know nothing of streams.
    """
    wanted = truths.unpack(_stream(workload).wanted_bytes)
    known = {
        name: truths.unpack(packed)
        for name in ("reads_crc32c", "windows_crc32c")
        if (packed := getattr(workload.truth, name)) is not None
    }
    of_objects = workload.object_bytes / max(1, sum(wanted))
    numbered = enumerate(windows(workload))
    for some in itertools.batched(numbered, workload.concurrent_reads):
        first, reads = some[0][0], tuple(window for _, window in some)
        last = first + len(reads)
        bytes_here = sum(wanted[first:last])
        yield Step(
            first,
            msgspec.structs.replace(
                workload,
                stream=None,
                reads=reads,
                array_bytes=selected_bytes(workload.array, reads),
                wanted_bytes=bytes_here,
                object_bytes=math.ceil(of_objects * bytes_here),
                truth=msgspec.structs.replace(
                    workload.truth, **{name: truths.pack(crcs[first:last]) for name, crcs in known.items()}
                ),
            ),
        )


def _stream(workload: Workload) -> Stream:
    if workload.stream is None:
        raise ValueError("the workload is no stream")
    return workload.stream


def _by_window(draft: Workload, of_objects: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the sum of each window's objects."""
    sums = of_objects
    for axis, (size, length) in enumerate(zip(_stream(draft).window, draft.array.shard_shape, strict=True)):
        sums = np.add.reduceat(sums, range(0, of_objects.shape[axis], math.ceil(size / length)), axis=axis)
    return sums.ravel()


def _loops(draft: Workload, once: int, stored: int) -> int:
    """Return how often the windows are read for as many bytes and seconds as are asked for."""
    asked = draft.parameters
    for_bytes = 1 if asked.gib is None else math.ceil(asked.gib * 2**30 / once)
    seconds = DEFAULT_SECONDS if asked.seconds is None else asked.seconds
    of_loop = _least_seconds(draft.target, stored, math.ceil(draft.windows / draft.concurrent_reads))
    return max(1, for_bytes, math.ceil(seconds / of_loop))


def _least_seconds(target: Target, nbytes: int, in_turn: int) -> float:
    """Return what a loop takes at least: its bytes over the link, and a first byte for every step."""
    store = state.running() if target.profile is not None else None
    gbit_s = None if store is None else store.profile.link_gbit_s or store.link.gbit_s
    first_byte = 0.0 if store is None else (store.profile.first_byte_ms or 0.0) / 1e3
    return max(nbytes * 8e-9 / (gbit_s or _UNKNOWN_LINK_GBIT_S), in_turn * first_byte)
