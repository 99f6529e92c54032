"""The data sets: laid out as zarr lays them out, read back as the truth, resumed, verified, within memory."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from typing import Any, Literal

import numpy as np
import obstore
import pytest
import zarr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore
from zarr.codecs import BloscCodec, ShardingCodec, ZstdCodec
from zarr.storage import ObjectStore

from harness.datasets import manifest
from harness.datasets.manifest import CODECS, DTYPES, SUBCHUNK_ORDERS, DatasetSpec, Manifest
from harness.errors import AnswerIsNoError, BadUseError, StoreError
from harness.paths import ROOT
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.targets.target import Target
from setup_data import encode, presets, verify, write
from setup_data.bucket import ensure_bucket
from setup_data.cli import data
from setup_data.encode import index_nbytes, shard_key, shards
from setup_data.field import Field
from setup_data.ledger import block_shards


def make_spec(**changes) -> DatasetSpec:
    values: dict[str, Any] = {
        "preset": "custom",
        "name": "array",
        "shape": (16, 16, 16),
        "chunk_shape": (1, 4, 8),
        "shard_shape": (4, 8, 16),
        "dtype": "uint16",
        "codec": "zstd",
        "subchunk_order": "c",
        "seed": 5,
    }
    return DatasetSpec(**(values | changes))


def truth(spec: DatasetSpec) -> np.ndarray:
    return Field(spec.seed, spec.dtype).box((0,) * len(spec.shape), spec.shape)


def objects(store) -> dict[str, bytes]:
    paths = [meta["path"] for batch in obstore.list(store) for meta in batch]
    return {path: bytes(obstore.get(store, path).bytes()) for path in paths}


def stored(store, spec: DatasetSpec, number: int = 0) -> bytearray:
    return bytearray(obstore.get(store, shard_key(spec, list(shards(spec))[number])).bytes())


def index_of(spec: DatasetSpec, shard: bytes) -> np.ndarray:
    return np.frombuffer(shard[-index_nbytes(spec) : -4], "<u8").reshape(-1, 2)


def write_with_zarr(spec: DatasetSpec) -> MemoryStore:
    """The same array written by zarr-python."""
    inner = {
        "zstd": (ZstdCodec(level=encode.ZSTD_LEVEL),),
        "blosc-lz4": (BloscCodec(cname="lz4", clevel=encode.BLOSC_LEVEL, shuffle="shuffle"),),
        "none": (),
    }[spec.codec]
    order: Literal["lexicographic", "morton"] = "lexicographic" if spec.subchunk_order == "c" else "morton"
    store = MemoryStore()
    array = zarr.create_array(
        ObjectStore(store),
        name=spec.key,
        shape=spec.shape,
        chunks=spec.shard_shape,
        dtype=spec.dtype,
        serializer=ShardingCodec(
            chunk_shape=spec.chunk_shape, codecs=(zarr.codecs.BytesCodec(), *inner), subchunk_write_order=order
        ),
        compressors=None,
        config={"write_empty_chunks": True},
    )
    array[...] = truth(spec)
    return store


@st.composite
def small_specs(draw):
    chunks = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    shards_ = [length * draw(st.integers(1, 5)) for length in chunks]
    return make_spec(
        shape=tuple(length * draw(st.integers(1, 2)) for length in shards_),
        shard_shape=tuple(shards_),
        chunk_shape=tuple(chunks),
        dtype=draw(st.sampled_from(DTYPES)),
        codec=draw(st.sampled_from(CODECS)),
        subchunk_order=draw(st.sampled_from(SUBCHUNK_ORDERS)),
        seed=draw(st.integers(0, 2**64 - 1)),
    )


@given(spec=small_specs())
@settings(deadline=None, max_examples=60)
def test_zarr_reads_the_truth_and_would_have_written_the_same_shards(spec):
    store = MemoryStore()
    assert write.write(store, spec).status == "written"
    array = zarr.open_array(ObjectStore(store), path=spec.key, mode="r")
    assert array.dtype.name == spec.dtype
    assert np.array_equal(array[...], truth(spec))
    theirs = write_with_zarr(spec)
    for shard in shards(spec):
        key = shard_key(spec, shard)
        assert bytes(obstore.get(store, key).bytes()) == bytes(obstore.get(theirs, key).bytes())
    assert verify.verify(store, manifest.find(store, "array"), all_truth=True).ok


@pytest.mark.parametrize("order", SUBCHUNK_ORDERS)
@pytest.mark.parametrize("grid", [(64, 1, 1), (64, 2, 2), (4, 4, 4), (3, 5, 2), (1, 7), (9,), (2, 3, 1, 5)])
def test_order_of_offsets_is_zarrs(grid, order):
    spec = make_spec(shape=grid, shard_shape=grid, chunk_shape=(1,) * len(grid), codec="none", subchunk_order=order)
    theirs = index_of(spec, stored(write_with_zarr(spec), spec))
    assert np.array_equal(np.argsort(theirs[:, 0]), encode.stored_order(spec))
    assert np.array_equal(encode.layout(spec, theirs[:, 1]), theirs)


@pytest.mark.parametrize("order", SUBCHUNK_ORDERS)
def test_boxes_cover_a_shard_in_stored_order(monkeypatch, order):
    monkeypatch.setattr(encode, "_BOX_NBYTES", 300)
    spec = make_spec(shape=(6, 20, 24), shard_shape=(6, 20, 24), subchunk_order=order)
    boxes = encode.boxes(spec)
    corners = [[a + b.start for a, b in zip(box.start, place, strict=True)] for box in boxes for place in box.places]
    numbers = np.ravel_multi_index(tuple((np.array(corners) // spec.chunk_shape).T), spec.chunks_per_shard)
    assert np.array_equal(numbers, encode.stored_order(spec))
    assert max(math.prod(box.shape) * 2 for box in boxes) <= 300
    assert sum(math.prod(box.shape) for box in boxes) == math.prod(spec.shard_shape)


# --- presets


@pytest.mark.parametrize("preset", ["tiny", "demo", "cloud"])
def test_every_size_has_enough_for_every_pattern(preset):
    specs = {spec.name: spec for spec in presets.specs(preset, tuple(presets.dataset_names(preset)))}
    assert list(specs) == ["small", "large", "small-morton", "large-morton"]
    for name in ("small", "large"):
        spec, morton = specs[name], specs[f"{name}-morton"]
        assert spec.chunks_per_shard == (64, 1, 1)
        assert (morton.shape, morton.chunk_shape, morton.seed) == (spec.shape, spec.chunk_shape, spec.seed)
        assert morton.chunks_per_shard[0] == 64
        assert not np.array_equal(encode.stored_order(morton), np.arange(math.prod(morton.chunks_per_shard)))
    assert math.prod(specs["small"].shard_grid) >= 64
    assert math.prod(specs["large"].shard_grid) >= 4


def test_sizes_of_the_presets():
    small, large, *_ = presets.specs("demo")
    assert small.nbytes == large.nbytes == 256 << 20
    assert (small.chunk_nbytes, math.prod(small.shard_grid)) == (32 << 10, 128)
    assert (large.chunk_nbytes, math.prod(large.shard_grid)) == (1 << 20, 4)
    assert sum(spec.nbytes for spec in presets.specs("tiny")) < 16 << 20
    (gem3,) = presets.specs("headline")
    assert (gem3.nbytes, math.prod(gem3.shard_grid), gem3.subchunk_order) == (464_486_400, 4, "morton")
    assert presets.dataset_names("headline") == ["gem3"]
    cloud = presets.specs("cloud")
    assert [spec.name for spec in cloud] == ["small", "large"]
    assert all(spec.nbytes == 256 << 30 for spec in cloud)
    assert all(math.prod(spec.shard_grid) / block_shards(spec) <= 1024 for spec in cloud)


def test_unknown_presets_and_datasets():
    with pytest.raises(BadUseError, match="unknown preset 'huge': choose from tiny, demo, cloud"):
        presets.specs("huge")
    with pytest.raises(BadUseError, match="has no dataset 'medium': choose from small, large"):
        presets.specs("demo", ("medium",))


@pytest.mark.parametrize("name", ["small", "large", "small-morton", "large-morton"])
def test_demo_data_compress_as_real_data_do(name):
    (spec,) = presets.specs("demo", (name,))
    body = encode.encode_shard(spec, next(shards(spec)))
    assert 1.5 < spec.shard_nbytes / len(body) < 4
    if spec.subchunk_order == "c":  # a time step of g + 1 leaves exactly g chunks between, in bytes as stored
        index = index_of(spec, body)
        assert np.array_equal(index[:-1].sum(axis=1), index[1:, 0])


# --- the writer


def test_metadata_come_last_and_nothing_else_stays():
    store, spec = MemoryStore(), make_spec()
    assert write.write(store, spec, most_shards=3).status == "unfinished"
    with pytest.raises(FileNotFoundError):
        zarr.open_array(ObjectStore(store), path=spec.key, mode="r")
    assert manifest.find(store, "array") is None
    report = write.write(store, spec)
    assert report.status == "written"
    expected = {shard_key(spec, shard) for shard in shards(spec)}
    assert set(objects(store)) == expected | {f"{spec.key}/zarr.json", f"{spec.key}.manifest"}
    sizes = [len(body) for key, body in objects(store).items() if key in expected]
    assert report.stored_bytes == sum(sizes)
    assert report.ratio == spec.nbytes / report.stored_bytes


@pytest.mark.parametrize("preset", [presets.specs("tiny")[0], make_spec(shape=(64, 64, 64))], ids=["tiny", "custom"])
def test_resuming_skips_finished_blocks_and_ends_with_the_same_bytes(monkeypatch, preset):
    monkeypatch.setattr("setup_data.ledger._LEAST_BLOCK", 2 * preset.shard_nbytes)
    store, at_once = MemoryStore(), MemoryStore()
    write.write(at_once, preset)
    done = []
    write.write(store, preset, most_shards=7)
    report = write.write(store, preset, advance=done.append)
    assert report.skipped_shards == 6  # three blocks of two; the seventh shard's block was not complete
    assert sum(done) == preset.nbytes
    assert objects(store) == objects(at_once)


def test_damaged_parts_count_for_nothing(monkeypatch):
    monkeypatch.setattr("setup_data.ledger._LEAST_BLOCK", 1)
    store, spec = MemoryStore(), make_spec()
    write.write(store, spec, most_shards=4)
    part = f"{spec.key}.manifest.parts/000001"
    obstore.put(store, part, obstore.get(store, part).bytes()[:-1])
    obstore.put(store, f"{spec.key}.manifest.parts/000002", obstore.get(store, part.replace("1", "3")).bytes())
    obstore.put(store, f"{spec.key}.manifest.parts/junk", b"junk")
    assert write.write(store, spec).skipped_shards == 2
    assert verify.verify(store, manifest.find(store, "array")).ok


def test_a_finished_dataset_is_left_alone():
    store, spec = MemoryStore(), make_spec()
    write.write(store, spec)
    obstore.put(store, f"{spec.key}.manifest.parts/spec", b"left by a kill between the last two steps")
    before = {path: body for path, body in objects(store).items() if "parts" not in path}
    obstore.delete(store, shard_key(spec, (0, 0, 0)))
    del before[shard_key(spec, (0, 0, 0))]
    assert write.write(store, spec).status == "already written"
    assert objects(store) == before


@pytest.mark.parametrize("most_shards", [None, 3], ids=["finished", "unfinished"])
@pytest.mark.parametrize("change", [{"seed": 6}, {"codec": "none"}, {"shape": (4, 8, 16)}, {"dtype": "int16"}])
def test_another_dataset_is_replaced_only_when_asked(change, most_shards):
    store, other = MemoryStore(), make_spec(**change)
    write.write(store, make_spec(), most_shards=most_shards)
    before = objects(store)
    with pytest.raises(BadUseError, match="--overwrite"):
        write.write(store, other)
    assert objects(store) == before
    assert write.write(store, other, overwrite=True).skipped_shards == 0
    fresh = MemoryStore()
    write.write(fresh, other)
    assert objects(store) == objects(fresh)


def test_an_array_without_a_manifest_is_not_ours_to_replace():
    spec = make_spec()
    store = write_with_zarr(spec)
    with pytest.raises(BadUseError, match="without a manifest"):
        write.write(store, spec)


def test_large_shards_are_streamed_to_the_same_bytes(monkeypatch):
    whole, streamed = MemoryStore(), MemoryStore()
    shape = (16, 256, 256)
    spec = make_spec(shape=shape, shard_shape=shape, chunk_shape=(1, 64, 64), subchunk_order="morton")
    write.write(whole, spec)
    monkeypatch.setattr(write, "_WHOLE_NBYTES", 0)
    monkeypatch.setattr(encode, "_PIECE_NBYTES", 1 << 18)
    write.write(streamed, spec)
    assert objects(streamed) == objects(whole)


def test_an_upload_that_fails_ends_the_run(monkeypatch):
    calls = 0
    real = obstore.put_async

    async def failing(*args, **options):
        nonlocal calls
        calls += 1
        if calls > 5:
            raise OSError("disk full")
        return await real(*args, **options)

    monkeypatch.setattr(write.obstore, "put_async", failing)
    store, spec = MemoryStore(), presets.specs("tiny")[0]
    with pytest.raises(OSError, match="disk full"):
        write.write(store, spec, in_flight=2)
    assert f"{spec.key}/zarr.json" not in objects(store)
    monkeypatch.undo()
    write.write(store, spec)
    assert verify.verify(store, manifest.find(store, "tiny/small")).ok


@pytest.mark.parametrize("in_flight", [1, 7])
def test_uploads_in_flight(monkeypatch, in_flight):
    now = most = 0
    real = obstore.put_async

    async def counting(store, key, *args, **options):
        nonlocal now, most
        shard = "/c/" in key
        now += shard
        most = max(most, now)
        try:
            return await real(store, key, *args, **options)
        finally:
            now -= shard

    monkeypatch.setattr(write.obstore, "put_async", counting)
    write.write(MemoryStore(), presets.specs("tiny")[0], in_flight=in_flight)
    assert 1 <= most <= in_flight


def test_scratch_of_the_put_rate_is_removed():
    store, spec = MemoryStore(), make_spec()
    assert write.measure_put_rate(store, spec) > 0
    assert objects(store) == {}


_MEMORY = """
import asyncio, resource, sys, time
import obstore
from obstore.store import LocalStore
from harness.machine.exit import run_then_exit
from setup_data import presets, write
from tests.e2e.test_setup_data import make_spec

real, now, most = obstore.put_async, 0, 0
async def slow(store, key, body, **options):
    global now, most
    now += 1
    most = max(most, now)
    until = time.monotonic() + 60
    while most < int(sys.argv[3]) and time.monotonic() < until:  # until all that may be in flight is
        await asyncio.sleep(0.05)
    if isinstance(body, bytes):
        body = body[:100]  # the disk is not what is tested
    result = await real(store, key, body, **options)
    now -= 1
    return result
write.obstore.put_async = slow
specs = {
    "small": (presets.specs("cloud", ("small",))[0], 150),
    "large": (presets.specs("cloud", ("large",))[0], 26),
    "huge": (make_spec(shape=(2048, 1024, 512), shard_shape=(512, 1024, 512), chunk_shape=(1, 512, 512)), 2),
}
def main():
    spec, count = specs[sys.argv[1]]
    assert write.write(LocalStore(sys.argv[2]), spec, most_shards=count).status == "unfinished"
    print(most, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
run_then_exit(main)
"""


@pytest.mark.parametrize(("name", "in_flight"), [("small", 100), ("large", 22), ("huge", 2)])
def test_memory_stays_under_two_gib_whatever_the_shard(tmp_path, name, in_flight):
    command = [sys.executable, "-c", _MEMORY, name, str(tmp_path), str(in_flight)]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=environment()).stdout
    most, rss = map(int, printed.split())
    assert most >= in_flight
    assert rss < 2 << 30


# --- verification


@pytest.fixture
def written():
    store, spec = MemoryStore(), make_spec()
    write.write(store, spec)
    return store, spec


def check(store, **options):
    return verify.verify(store, manifest.find(store, "array"), **options)


def test_a_flipped_byte_anywhere_in_a_shard_is_found(written):
    store, spec = written
    key = shard_key(spec, list(shards(spec))[3])
    body = stored(store, spec, 3)
    index = index_of(spec, body)
    for place in range(0, len(body), 41):
        damaged = bytearray(body)
        damaged[place] ^= 0x10
        obstore.put(store, key, bytes(damaged))
        report = check(store)
        assert not report.ok
        assert report.first_bad.key == key
        hit = np.flatnonzero((index[:, 0] <= place) & (place < index.sum(axis=1)))
        assert report.bad_chunks == (len(hit) or len(index))
        if len(hit):
            inside = np.unravel_index(hit[0], spec.chunks_per_shard)
            shard = np.array(list(shards(spec))[3]) * spec.chunks_per_shard
            assert report.first_bad.chunk == tuple((shard + inside).tolist())


def test_lost_cut_and_longer_shards_are_found(written):
    store, spec = written
    key, body = shard_key(spec, (0, 0, 0)), bytes(stored(store, spec))
    chunks = math.prod(spec.chunks_per_shard)
    for damaged in (b"", body[:-1], body[: len(body) // 2], b"\0" + body, body[-index_nbytes(spec) :]):
        obstore.put(store, key, damaged)
        assert check(store).bad_chunks == chunks
    obstore.delete(store, key)
    report = check(store)
    assert report.bad_chunks == chunks
    assert report.complaint() == (
        "custom/array does not verify: chunk 0/0/0 (custom/array/c/0/0/0): its shard is missing; "
        f"{chunks} of {report.chunks} chunks are bad"
    )


def test_a_sound_shard_in_another_order_is_found():
    store, spec = MemoryStore(), make_spec(subchunk_order="morton")
    write.write(store, spec)
    other = MemoryStore()
    write.write(other, make_spec(subchunk_order="c"))
    obstore.put(store, shard_key(spec, (0, 0, 0)), bytes(stored(other, spec)))
    assert "not in morton order" in check(store).first_bad.reason


def test_data_that_are_consistent_but_not_the_truth_are_found(written, monkeypatch):
    store, spec = written
    other = MemoryStore()
    write.write(other, make_spec(seed=6))
    lying = manifest.find(other, "array")
    for path, body in objects(other).items():
        obstore.put(store, path, body)
    claim = Manifest(spec=spec, stored_crc32c=lying.stored_crc32c, decoded_crc32c=lying.decoded_crc32c)
    obstore.put(store, f"{spec.key}.manifest", claim.encode())
    assert check(store, all_truth=True).bad_chunks == math.prod(spec.chunk_grid)
    monkeypatch.setattr(verify, "_SAMPLE", 10)
    report = check(store)
    assert 1 <= report.bad_chunks == report.truth_chunks <= 10
    assert not report.metadata_ok


def test_other_metadata_are_found(written):
    store, spec = written
    obstore.put(store, f"{spec.key}/zarr.json", b"{}")
    assert check(store).complaint() == (
        "custom/array does not verify: its zarr.json is not the one its manifest demands"
    )


# --- the commands, on the embedded store


CUSTOM = ["--name", "array", "--shape", "16,16,16", "--chunks", "1,4,8", "--shards", "4,8,16"]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def run(*arguments: str) -> str:
    """What `zcb data` prints on stdout; its errors are raised."""
    return CliRunner().invoke(data, list(arguments), catch_exceptions=False, standalone_mode=False).stdout


def zcb_data(*arguments: str) -> list[str]:
    code = "from harness.machine.exit import run_then_exit; from setup_data.cli import data; run_then_exit(data)"
    return [sys.executable, "-c", code, *arguments]


def emptied() -> Target:
    """Return the embedded target, its bucket made and empty."""
    found = resolve("embedded")
    ensure_bucket(found)
    for batch in obstore.list(open_store(found)):
        obstore.delete(open_store(found), [meta["path"] for meta in batch])
    return found


def once_after(count, act):
    """What to call at each stored shard so that `act` is called once, at the `count`-th."""
    calls = itertools.count(1)
    return lambda _: act() if next(calls) == count else None


@pytest.fixture
def clean(embedded_store):
    """The embedded target's store, its bucket made and empty."""
    return open_store(emptied())


def test_create_and_verify_a_preset(clean):
    reports = json.loads(run("create", "--target", "embedded", "--preset", "tiny", "--measure-put-rate", "--json"))
    assert [each["dataset"] for each in reports["datasets"]] == [
        "tiny/small",
        "tiny/large",
        "tiny/small-morton",
        "tiny/large-morton",
    ]
    for report in reports["datasets"]:
        assert report["status"] == "written"
        assert report["ratio"] == report["decoded_bytes"] / report["stored_bytes"]
        assert report["write_to_raw"] == report["write_mb_s"] / report["raw_put_mb_s"]
    assert not [path for path in objects(clean) if "scratch" in path or "parts" in path]
    assert manifest.datasets(resolve("embedded")) == sorted(each["dataset"] for each in reports["datasets"])
    assert "already written" in run("create", "--target", "embedded", "--preset", "tiny", "--dataset", "large")
    found = json.loads(run("verify", "--target", "embedded", "--truth", "--json"))
    assert [each["bad_chunks"] for each in found["datasets"]] == [0, 0, 0, 0]
    assert all(each["truth_chunks"] == each["chunks"] for each in found["datasets"])


def test_list_shows_every_array_and_why_one_cannot_be_measured(clean):
    assert json.loads(run("list", "--json"))["datasets"] == []
    run("create", "--target", "embedded", *CUSTOM)
    spec = make_spec()
    for path, content in objects(clean).items():
        obstore.put(clean, path.replace("custom/array", "somebody/group/theirs"), content)  # no manifest of its own
    obstore.delete(clean, "somebody/group/theirs.manifest")
    obstore.put(clean, "somebody/group/zarr.json", b'{"zarr_format": 3, "node_type": "group"}')
    obstore.put(clean, "old/zarr.json", b'{"zarr_format": 3, "node_type": "array", "shape": [4]}')
    obstore.put(clean, "custom/begun.manifest", b"x")
    found = {each.pop("key"): each for each in json.loads(run("list", "--target", "embedded", "--json"))["datasets"]}
    assert list(found) == ["custom/array", "custom/begun", "old", "somebody/group/theirs"]
    assert found["custom/array"] == {
        "shape": list(spec.shape),
        "chunk_shape": list(spec.chunk_shape),
        "shard_shape": list(spec.shard_shape),
        "dtype": "uint16",
        "codec": "zstd",
        "decoded_bytes": spec.nbytes,
        "has_manifest": True,
        "trouble": None,
    }
    assert found["somebody/group/theirs"] == found["custom/array"] | {"has_manifest": False}
    assert "unfinished" in found["custom/begun"]["trouble"]
    assert "has a chunk grid of kind 'none'" in found["old"]["trouble"]
    shown = run("list")
    assert all(key in shown for key in found)
    assert "16x16x16" in shown
    with pytest.raises(StoreError, match="cannot reach"):
        run("list", "--target", "https://127.0.0.1:9/x")


def test_verify_answers_no_in_one_line(clean):
    run("create", "--target", "embedded", *CUSTOM, "--seed", "5", "--codec", "blosc-lz4")
    spec = make_spec(codec="blosc-lz4")
    body = stored(clean, spec, 1)
    body[10] ^= 1
    obstore.put(clean, shard_key(spec, list(shards(spec))[1]), bytes(body))
    complaint = r"chunk 0/2/0 \(custom/array/c/0/1/0\).*; 1 of 128 chunks are bad"
    with pytest.raises(AnswerIsNoError, match=complaint) as error:
        run("verify", "--target", "embedded", "--dataset", "array")
    assert "\n" not in str(error.value)


def test_killed_in_the_middle_it_resumes_to_the_same_bytes(clean):
    custom = ["--name", "killed", "--shape", "512,256,256", "--chunks", "1,64,64", "--shards", "32,64,64", "--json"]
    command = zcb_data("create", "--target", "embedded", *custom, "--in-flight", "4")
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            listed = obstore.list_with_delimiter(clean, "custom/killed.manifest.parts/")["objects"]
            if len(listed) > 1:  # the spec and a part
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
    assert process.returncode == -signal.SIGKILL
    left = objects(clean)
    assert "custom/killed/zarr.json" not in left
    with pytest.raises(BadUseError):
        run("verify", "--target", "embedded", "--dataset", "killed")
    (report,) = json.loads(run("create", "--target", "embedded", *custom))["datasets"]
    assert 0 < report["skipped_shards"] < report["shards"] == 256
    at_once = MemoryStore()
    write.write(at_once, manifest.find(clean, "killed").spec)
    assert objects(clean) == objects(at_once)
    assert report["stored_bytes"] == sum(len(body) for path, body in objects(at_once).items() if "/c/" in path)


def test_streamed_shards_on_the_embedded_store(clean, monkeypatch):
    monkeypatch.setattr(write, "_WHOLE_NBYTES", 1 << 20)
    spec = make_spec(shape=(32, 512, 1024), shard_shape=(32, 512, 1024), chunk_shape=(1, 256, 256), codec="none")
    write.write(clean, spec)
    assert verify.verify(clean, manifest.find(clean, "array"), all_truth=True).ok


def test_a_target_is_a_directory_too(tmp_path):
    store, spec = LocalStore(tmp_path), make_spec()
    write.write(store, spec, most_shards=2)
    write.write(store, spec)
    write.write(store, spec, overwrite=True)
    assert verify.verify(store, manifest.find(store, "array")).ok
    assert Target(name="x", url="s3://b/p/").prefix == "p"
