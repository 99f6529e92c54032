"""Streams: windows of whole shards, a file that stays small, and a truth of each window."""

import time

import msgspec
import numpy as np
import pytest

from harness.datasets.array import ArrayInfo, grid
from harness.errors import BadUseError, WrongDataError
from harness.targets.target import Target
from harness.workload import model, stream
from harness.workload import truth as truths
from harness.workload.model import SCHEMA, Workload
from harness.workload.patterns import PATTERNS, Parameters

TARGET = Target(name="t", url="s3://bucket", endpoint="http://localhost:1")
SMALL = ArrayInfo(
    key="a", shape=(12, 4), chunk_shape=(1, 2), shard_shape=(2, 2), dtype="uint16", codec="zstd", subchunk_order="c"
)
TIB = msgspec.structs.replace(SMALL, shape=(65536, 2048, 4096), chunk_shape=(1, 512, 1024), shard_shape=(64, 512, 1024))
SEED = 3


def draft(array: ArrayInfo, **asked: float) -> Workload:
    """Return a stream that nothing is known of yet."""
    parameters = msgspec.convert(asked, Parameters)
    return Workload(
        schema=SCHEMA,
        pattern="stream",
        parameters=parameters,
        target=TARGET,
        array=array,
        in_flight=8,
        reads=PATTERNS["stream"].selections(array, parameters),
        concurrent_reads=parameters.concurrent_reads or 1,
        array_bytes=0,
        wanted_chunks=0,
        wanted_bytes=0,
        wanted_shards=0,
        gap_bytes=(),
        truth=truths.UNKNOWN,
    )


def made(array: ArrayInfo, crcs: np.ndarray, **asked: float) -> Workload:
    """Return a stream of an array whose shards are stored as 10 bytes each, 4 of them an index."""
    plan = stream.planned(draft(array, **asked))
    shards = grid([stop for _, stop, _ in plan.reads[0]], array.shard_shape)
    stored = stream.StoredBytes(np.full(shards, 6, np.uint64), np.full(shards, 10, np.uint64))
    return stream.counted(plan, stored, crcs)


def tiny() -> tuple[np.ndarray, np.ndarray]:
    """Return the elements of `SMALL`, and the CRC32C of its chunks."""
    values = np.random.default_rng(SEED).integers(0, 999, SMALL.shape, "uint16")
    crcs = np.array([[truths.crc32c(values[row : row + 1, at : at + 2]) for at in (0, 2)] for row in range(12)], "u4")
    return values, crcs


def test_windows_are_rows_of_shards_and_the_last_may_be_shorter():
    _, crcs = tiny()
    plan = stream.planned(draft(SMALL, seconds=0))
    plan = msgspec.structs.replace(plan, stream=model.Stream(window=(8, 4), wanted_bytes=""))
    assert stream.windows(plan) == [((0, 8, 1), (0, 4, 1)), ((8, 12, 1), (0, 4, 1))]
    work = made(SMALL, crcs, seconds=0, gib=60 / 2**30)
    assert work.reads[0][0] == (0, 8, 1)
    assert (work.wanted_shards, work.wanted_bytes, work.wanted_chunks) == (8, 48, 16)


WIDE = msgspec.structs.replace(SMALL, shape=(128, 1024, 2048), chunk_shape=(1, 512, 512), shard_shape=(64, 512, 512))
"""Two rows of eight shards of 32 MiB."""


@pytest.mark.parametrize(
    ("mib", "box"),
    [
        (1, (64, 512, 512)),  # one shard at least
        (32, (64, 512, 512)),
        (100, (64, 512, 1536)),
        (128, (64, 512, 2048)),
        (255, (64, 512, 2048)),
        (256, (64, 1024, 2048)),
        (10_000, (128, 1024, 2048)),
    ],
)
def test_a_window_holds_as_many_whole_shards_as_fit(mib, box):
    assert stream.planned(draft(WIDE, seconds=0, window_mib=mib)).stream.window == box


def test_wide_rows_are_cut_across():
    crcs = np.arange(128 * 2 * 4, dtype=np.uint32).reshape(128, 2, 4)
    work = made(WIDE, crcs, seconds=0, window_mib=96)
    assert work.windows == 2 * 2 * 2
    assert work.at_once_bytes == 96 << 20
    assert stream.windows(work)[1] == ((0, 64, 1), (0, 512, 1), (1536, 2048, 1))
    assert [step.work.wanted_bytes for step in stream.steps(work)] == [18, 6] * 4
    assert sum(step.work.array_bytes for step in stream.steps(work)) == WIDE.nbytes
    windows = truths.unpack(work.truth.windows_crc32c)
    assert windows[1] == truths.of_window(crcs[:64, :1, 3:].ravel())
    assert windows[6] == truths.of_window(crcs[64:, 1:, :3].ravel())
    some = made(WIDE, crcs, seconds=0, window_mib=64, gib=0.1)
    assert some.reads == (((0, 64, 1), (0, 512, 1), (0, 2048, 1)),)
    assert model.decode(model.encode(some)) == some


def test_less_than_is_asked_for_is_read_again():
    _, crcs = tiny()
    work = made(SMALL, crcs, seconds=0, gib=3 * 96 / 2**30)
    assert work.stream is not None
    assert work.stream.loops == 3
    assert (work.array_bytes, work.wanted_bytes) == (3 * 96, 3 * 72)
    assert model.decode(model.encode(work)) == work


def test_it_lasts_ten_seconds_at_ten_gbit_a_second_where_no_link_is_known():
    _, crcs = tiny()
    with pytest.raises(BadUseError, match="loops"):
        made(SMALL, crcs)
    assert made(SMALL, crcs, seconds=1e-6).stream.loops == int(np.ceil(10e9 / 8 * 1e-6 / 72))


def test_each_window_is_compared_and_named():
    values, crcs = tiny()
    work = made(SMALL, crcs, seconds=0)
    one_by_one = msgspec.structs.replace(
        work,
        stream=model.Stream(window=(2, 4), wanted_bytes=truths.pack([12] * 6)),
        truth=truths.Truth(
            windows_crc32c=truths.pack(truths.of_window(crcs[at : at + 2].ravel()) for at in range(0, 12, 2))
        ),
    )
    steps = list(stream.steps(one_by_one))
    assert [step.first for step in steps] == list(range(6))
    assert sum(step.work.wanted_bytes for step in steps) == work.wanted_bytes
    for step in steps:
        (start, stop, _), _ = step.work.reads[0]
        model.verify(step.work, [values[start:stop]], first=step.first)
    damaged = values[6:8].copy()
    damaged[1, 3] ^= 1
    with pytest.raises(WrongDataError, match=r"window 3 of a, \[6:8, 0:4\], is wrong"):
        model.verify(steps[3].work, [damaged], first=3)


def test_two_windows_at_once_are_one_step():
    _, crcs = tiny()
    work = made(SMALL, crcs, seconds=0, concurrent_reads=2)
    work = msgspec.structs.replace(
        work, stream=model.Stream(window=(4, 4), wanted_bytes=truths.pack([24] * 3)), truth=truths.UNKNOWN
    )
    work = msgspec.structs.replace(work, truth=truths.Truth(windows_crc32c=truths.pack([1, 2, 3])))
    assert [(step.first, len(step.work.reads)) for step in stream.steps(work)] == [(0, 2), (2, 1)]
    assert work.at_once_bytes == 8 * 4 * 2
    with pytest.raises(BadUseError, match="at most 2"):
        draft(SMALL, concurrent_reads=3)


def test_the_file_of_a_tib_is_small_and_soon_made():
    crcs = np.zeros((65536, 4, 4), np.uint32)
    begin = time.process_time()
    work = made(TIB, crcs, seconds=0)
    text = model.encode(work)
    assert time.process_time() - begin < 1
    assert TIB.nbytes == 2**40
    assert work.windows == 4096
    assert len(text) < 64 << 10
    assert work.at_once_bytes == stream.DEFAULT_WINDOW_MIB << 20


@pytest.mark.parametrize(
    "fields",
    [
        {"reads": [[[0, 12, 2], [0, 4, 1]]], "array_bytes": 48},
        {"stream": {"window": [2, 4], "wanted_bytes": truths.pack([1, 2])}},
        {"stream": {"window": [0, 4], "wanted_bytes": ""}},
        {"stream": {"window": [2], "wanted_bytes": truths.pack([1] * 6)}},
        {"truth": {"decoded_crc32c": ""}},
    ],
)
def test_what_is_no_stream_is_refused(fields: dict[str, object]):
    _, crcs = tiny()
    plain = msgspec.to_builtins(made(SMALL, crcs, seconds=0))
    with pytest.raises(BadUseError, match="not a workload file"):
        model.decode(plain | fields)
