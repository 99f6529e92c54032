"""Streams: a read of any size, executed window by window in bounded memory, again and again until it lasts."""

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

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
    """Return a stream whose window and extent are settled: whole objects along the first axis.

    Raises
    ------
    BadUseError
        The windows that are under way at once do not fit into memory.
    """
    array, asked = draft.array, draft.parameters
    (start, stop, step), *others = draft.reads[0]
    height = array.shard_shape[0]
    row_bytes = height * math.prod(array.shape[1:]) * np.dtype(array.dtype).itemsize
    rows = math.ceil((stop - start) / height)
    if asked.gib is not None:
        rows = min(rows, math.ceil(asked.gib * 2**30 / row_bytes))
    window_mib = DEFAULT_WINDOW_MIB if asked.window_mib is None else asked.window_mib
    in_window = min(rows, max(1, (window_mib << 20) // row_bytes))
    made = msgspec.structs.replace(
        draft,
        reads=(((start, min(stop, start + rows * height), step), *others),),
        stream=Stream(window=in_window * height, wanted_bytes=""),
    )
    check_memory(made.at_once_bytes)
    return made


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
    height = array.chunk_shape[0]
    crcs = (
        truths.of_window(decoded_crc32c[start // height : math.ceil(stop / height)].ravel())
        for ((start, stop, _), *_) in windows(made)
    )
    return msgspec.structs.replace(made, truth=Truth(windows_crc32c=truths.pack(crcs)))


def windows(workload: Workload) -> list[Slices]:
    """Return the windows of one loop of a stream, in their order."""
    (start, stop, _), *others = workload.reads[0]
    size = _stream(workload).window
    return [((at, min(at + size, stop), 1), *others) for at in range(start, stop, size)]


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
    rows = of_objects.reshape(len(of_objects), -1).sum(axis=1)
    in_window = _stream(draft).window // draft.array.shard_shape[0]
    sums: npt.NDArray[np.uint64] = np.add.reduceat(rows, range(0, len(rows), in_window))
    return sums


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
