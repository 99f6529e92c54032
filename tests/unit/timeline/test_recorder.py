"""Timelines of zarr-python: every chunk of every read is found again, whatever store, codec, pipeline and selection."""

import asyncio
import json
import threading
from collections import Counter

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from zarr import codecs
from zarr.abc.codec import CodecPipeline
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_buffer, register_pipeline
from zarr.storage import FsspecStore, MemoryStore, ObjectStore, StorePath, WrapperStore

from harness.cli import main, zcb
from harness.datasets.shards import index_nbytes
from harness.errors import BadUseError
from harness.measure import timelines
from harness.measure.timelines import record_timeline
from harness.readers import reader_class
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.targets.tracing import traced_session
from harness.timeline import model
from harness.timeline.model import EVENTS
from harness.timeline.validity import Wanted
from harness.timeline.wire import why_not
from harness.timeline.zarr_python import Recorder, record
from harness.timeline.zarr_python.assemble import NOTE_BULK, NOTE_SPLIT
from harness.timeline.zarr_python.http import http_trace
from harness.timeline.zarr_python.selection import inner_chunks
from harness.workload import files
from harness.workload import model as workloads
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.support.data import create

BATCHED = "zarr.core.codec_pipeline.BatchedCodecPipeline"
FUSED = "zarr.core.codec_pipeline.FusedCodecPipeline"
PIPELINES = [BATCHED, *([FUSED] if hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline") else [])]
SHAPE, CHUNKS, SHARDS = (32, 32, 32), (4, 8, 16), (16, 16, 32)
VALUES = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype("u2")
SELECTIONS = [np.s_[:], np.s_[0:16:5, 0, 0], np.s_[3, 5:30, 7], np.s_[5:30:7, ::3, 2:9]]
CODECS = {
    "none": {"compressors": None},
    "zstd": {"compressors": codecs.ZstdCodec()},
    "gzip": {"compressors": codecs.GzipCodec()},
    "blosc, crc32c": {"compressors": [codecs.BloscCodec(), codecs.Crc32cCodec()]},
    "transpose, zstd": {"filters": [codecs.TransposeCodec(order=(2, 0, 1))], "compressors": codecs.ZstdCodec()},
}
ZARR_READERS = ["zarr-python+fsspec", "zarr-python+obstore"]


class CountingStore(MemoryStore):
    """Counts reads of data at the one method that every read of the batched pipeline goes through."""

    gets = 0

    async def get(self, key, prototype, byte_range=None):
        self.gets += key.startswith("c/")
        return await super().get(key, prototype, byte_range)

    def get_sync(self, key, *, prototype=None, byte_range=None):
        self.gets += 1
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)


def stored(store=None, **options):
    """Write VALUES and return the store, read-only: else zarr opens a copy of it."""
    store = CountingStore() if store is None else store
    zarr.create_array(store, shape=SHAPE, chunks=CHUNKS, dtype="u2", **{"shards": SHARDS, **options})[:] = VALUES
    return store.with_read_only(True)


def touched(selection):
    """Return how many chunks a selection touches, by looking at every element."""
    numbers = np.indices(SHAPE) // np.array(CHUNKS).reshape(3, 1, 1, 1)
    return len({tuple(at) for at in numbers[(slice(None), *np.index_exp[selection])].reshape(3, -1).T.tolist()})


def check_events(timeline, *events):
    for chunk in timeline.chunks:
        times = [getattr(chunk, event) for event in events]
        assert None not in times, chunk
        assert times == sorted(times)
        assert timeline.begin_ns <= times[0]
        assert times[-1] <= timeline.end_ns


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("codec", CODECS)
def test_every_chunk_is_found_again_whatever_is_read_with_whatever_codecs(codec, pipeline):
    store = stored(**CODECS[codec])
    for selection in SELECTIONS:
        with zarr.config.set({"codec_pipeline.path": pipeline}), record() as recording:
            array = zarr.open_array(store, mode="r")
            store.gets = 0
            got = array[selection]
        timeline = recording.timeline()
        assert np.array_equal(got, VALUES[selection])
        assert (timeline.valid.ok, timeline.valid.failures) == (True, [])
        assert len({(c.chunk, c.key, c.offset) for c in timeline.chunks}) == len(timeline.chunks) == touched(selection)
        assert len(timeline.requests) == store.gets
        bulk = NOTE_BULK in timeline.notes
        assert bulk == (codec == "none" and pipeline == FUSED and selection == np.s_[:])
        if bulk:
            assert {c.decode_start_ns for c in timeline.chunks} == {None}
            check_events(timeline, "sent_ns", "last_byte_ns", "copied_ns")
        else:
            check_events(
                timeline,
                "sent_ns",
                "last_byte_ns",
                "decode_start_ns",
                "decoded_ns",
                "shard_copy_start_ns",
                "shard_copy_ns",
                "copy_start_ns",
                "copied_ns",
            )
            assert all(0 < c.decode_busy_ns <= c.decoded_ns - c.decode_start_ns for c in timeline.chunks)
            assert all(c.thread for c in timeline.chunks)


@pytest.mark.parametrize("options", [{"shards": None}, {"shards": None, "zarr_format": 2}])
def test_arrays_without_shards_are_recorded_too(options):
    store = stored(**options)
    with record() as recording:
        zarr.open_array(store, mode="r")[0:8, 0:8]
    timeline = recording.timeline()
    assert timeline.valid.ok
    assert sorted(c.chunk for c in timeline.chunks) == [(i, 0, k) for i in range(2) for k in range(2)]
    assert [r.kind for r in timeline.requests] == ["data"] * 4
    assert {c.shard_copy_ns for c in timeline.chunks} == {None}  # there is only one copy
    check_events(timeline, "sent_ns", "last_byte_ns", "decode_start_ns", "decoded_ns", "copied_ns")


def test_index_and_data_requests_have_their_byte_ranges():
    store = stored(compressors=None)
    with record() as recording:
        array = zarr.open_array(recording.watch(store), mode="r")
        array[0:4, 0:8, 0:16]
    timeline = recording.timeline()
    kinds = Counter(r.kind for r in timeline.requests)
    assert (kinds["index"], kinds["data"]) == (1, 1)
    assert kinds["metadata"] >= 1  # only a store that is watched from the opening on shows these
    (chunk,) = timeline.chunks
    (request,) = [r for r in timeline.requests if r.kind == "data"]
    assert request.range == (chunk.offset, chunk.offset + chunk.length)
    assert (chunk.length, chunk.request) == (4 * 8 * 16 * 2, request.id)


def test_an_index_at_the_start_of_its_shard_is_known_as_one():
    store = MemoryStore()
    sharding = codecs.ShardingCodec(chunk_shape=CHUNKS, codecs=[codecs.BytesCodec()], index_location="start")
    zarr.create_array(store, shape=SHAPE, chunks=SHARDS, dtype="u2", serializer=sharding, compressors=None)[:] = VALUES
    with record() as recording:
        assert np.array_equal(zarr.open_array(store, mode="r")[0:16:5, 0, 0], VALUES[0:16:5, 0, 0])
    timeline = recording.timeline()
    assert timeline.valid.ok
    assert [r.range for r in timeline.requests if r.kind == "index"] == [(0, index_nbytes((4, 2, 2)))]


def test_chunks_that_are_not_stored_are_not_wanted():
    store = MemoryStore()
    array = zarr.create_array(store, shape=SHAPE, chunks=CHUNKS, shards=SHARDS, dtype="u2")
    array[0:4, 0:8, 0:16] = 7
    with record() as recording:
        zarr.open_array(store, mode="r")[:]
    timeline = recording.timeline()
    assert (timeline.valid.ok, timeline.valid.chunks_wanted, len(timeline.chunks)) == (True, 1, 1)


class MergingStore(WrapperStore):  # type: ignore[type-arg]
    """A store with its own way of reading several ranges: in one piece."""

    async def get_ranges(self, key, byte_ranges, *, prototype, **_):
        whole = await self._store.get(key, prototype)
        yield [(i, whole[r.start : r.end]) for i, r in enumerate(byte_ranges)]


def test_a_store_that_merges_ranges_itself_is_called_as_it_wants_to_be():
    if not hasattr(WrapperStore, "get_ranges"):
        pytest.skip("came with zarr 3.3")
    store = MergingStore(stored())
    with record() as recording:
        zarr.open_array(store, mode="r")[0:16:5, 0, 0]
    timeline = recording.timeline()
    assert timeline.valid.ok
    assert {c.sent_ns for c in timeline.chunks} == {None}
    assert any("merges byte ranges by itself" in note for note in timeline.notes)
    assert [r.kind for r in timeline.requests] == ["index", "data"]


def settings():
    return {name: zarr.config.get(name) for name in ("codec_pipeline.path", "buffer", "ndbuffer")}


def test_everything_is_restored_also_after_an_error():
    before = settings()
    with pytest.raises(ZeroDivisionError), record():  # noqa: PT012
        assert settings() != before
        1 / 0  # noqa: B018
    assert settings() == before
    assert type(zarr.open_array(stored(), mode="r").async_array.codec_pipeline) is BatchedCodecPipeline


def test_an_array_opened_in_a_recording_stays_usable_and_unrecorded_after_it():
    store = stored()
    with record() as recording:
        array = zarr.open_array(store, mode="r")
        array[0]
    seen = len(recording.recording.gets)
    assert np.array_equal(array[:], VALUES)
    assert len(recording.recording.gets) == seen
    with recording:  # the same recorder may be entered again
        recording.begin()
        array[:]
        recording.end()
    assert recording.timeline().valid.chunks_linked == touched(np.s_[:])


def test_a_recording_inside_a_recording_is_refused_and_the_outer_one_goes_on():
    store = stored()
    with record() as recording:
        with pytest.raises(BadUseError, match="being recorded already"):
            Recorder().__enter__()
        zarr.open_array(store, mode="r")[0]
    assert recording.timeline().valid.ok


@pytest.mark.parametrize("another", [False, True])
def test_an_array_opened_before_is_an_error_that_says_so(another):
    store = stored()
    array = zarr.open_array(store, mode="r")
    with pytest.raises(BadUseError, match="opened before the recording"), record():  # noqa: PT012
        if another:
            zarr.open_array(store, mode="r")[0]
        array[0:8]


class ForeignPipeline(CodecPipeline):
    """Stands for pipelines in other languages."""


def test_a_pipeline_that_is_not_zarrs_is_refused():
    register_pipeline(ForeignPipeline)
    path = f"{ForeignPipeline.__module__}.{ForeignPipeline.__qualname__}"
    with zarr.config.set({"codec_pipeline.path": path}), pytest.raises(BadUseError, match="ForeignPipeline cannot be"):
        Recorder().__enter__()
    assert zarr.config.get("codec_pipeline.path") == BATCHED


def test_buffers_that_are_not_zarrs_are_refused():
    other = type("OtherBuffer", (cpu.Buffer,), {"__module__": __name__})
    register_buffer(other)
    with zarr.config.set({"buffer": f"{__name__}.OtherBuffer"}), pytest.raises(BadUseError, match="CPU buffers"):
        Recorder().__enter__()


def test_nothing_read_is_an_error():
    with pytest.raises(BadUseError, match="nothing was recorded"), record():
        pass


def test_what_cannot_be_recorded_is_refused_in_a_line():
    with pytest.raises(BadUseError, match="are of reads"), record():
        stored()
    nested = codecs.ShardingCodec(chunk_shape=(4, 8, 16), codecs=[codecs.ShardingCodec(chunk_shape=(2, 8, 8))])
    store = MemoryStore()
    zarr.create_array(store, shape=SHAPE, chunks=SHARDS, dtype="u2", serializer=nested, compressors=None)[:] = VALUES
    with pytest.raises(BadUseError, match="shards inside shards"), record():
        zarr.open_array(store, mode="r")[:]


def test_two_threads_may_read_in_one_recording():
    one, two = stored(), stored(shards=None)
    with record() as recording:
        arrays = [zarr.open_array(StorePath(store), mode="r") for store in (one, two)]
        threads = [threading.Thread(target=array.__getitem__, args=(slice(None),)) for array in arrays]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    timeline = recording.timeline()
    assert timeline.valid.chunks_linked == 2 * touched(np.s_[:])
    assert len(timeline.requests) == one.gets + two.gets


def test_selections_by_arrays():
    shape, chunk = (16, 16), (4, 8)
    outer = np.ix_([0, 9], [1, 15])
    assert sorted(inner_chunks(outer, shape, chunk)) == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert list(inner_chunks((np.array([0, 9]), np.array([1, 15])), shape, chunk)) == [(0, 0), (2, 1)]
    assert sorted(inner_chunks((slice(0, 5), np.array([1, 2])), shape, chunk)) == [(0, 0), (1, 0)]
    assert list(inner_chunks((5, slice(None)), shape, chunk)) == [(1, 0), (1, 1)]


# ---- over HTTP: the embedded store -------------------------------------------------------------------------


@pytest.fixture(scope="session")
def target(embedded_store):
    create("--preset", "tiny")
    return resolve("embedded")


def made(target, pattern="chunks_of_one_shard", dataset="tiny/small", **parameters):
    return create_workload(pattern, target, dataset=dataset, parameters=Parameters(**parameters))


WORKLOADS = [
    ("chunks_of_one_shard", "tiny/small", {"gap": 3}),
    ("chunks_of_many_shards", "tiny/small", {"shards": 4}),
    ("whole_array", "tiny/large", {}),
    ("chunks_of_one_shard", "tiny/large", {"gap": 1}),
]


@pytest.mark.parametrize("reader", ZARR_READERS)
@pytest.mark.parametrize(("pattern", "dataset", "parameters"), WORKLOADS)
def test_a_recording_agrees_with_the_store(target, control, reader, pattern, dataset, parameters):
    workload = made(target, pattern, dataset, **parameters)
    opened = reader_class(reader)()
    opened.open(workload)
    try:
        opened.timeline()
        control.mark("recorded", log=True)
        timeline, arrays = opened.timeline()
        log = control.requests("recorded")
    finally:
        opened.close()
    workloads.verify(workload, arrays)
    assert (timeline.valid.failures, timeline.valid.chunks_linked) == ([], workload.wanted_chunks)
    ours = sorted(timeline.requests, key=lambda r: (r.method, r.key, r.range or ()))
    theirs = sorted(log, key=lambda r: (r.method, r.key, r.range or ()))
    assert [(r.method, f"{workload.array.key}/{r.key}", r.bytes) for r in ours] == [
        (r.method, r.key, r.bytes) for r in theirs
    ]
    for mine, store in zip(ours, theirs, strict=True):
        assert store.range is None or mine.range in (store.range, None)
        assert mine.kind == {"get_index": "index", "get_data": "data", "head": "metadata"}[store.kind]
    if len({(r.method, r.key, r.range) for r in log}) == len(log):  # one clock: what a client sends comes later
        for mine, store in zip(ours, theirs, strict=True):
            assert mine.sent_ns <= store.received_ns or reader == "zarr-python+fsspec"
            assert store.received_ns <= mine.headers_ns <= mine.last_byte_ns
    events = [event for event in EVENTS if timeline.chunks[0].__getattribute__(event) is not None]
    assert events == list(EVENTS)
    check_events(timeline, *EVENTS)


def test_a_body_can_be_stamped_by_offset(target):
    workload = made(target, "whole_array", "tiny/large")
    with Recorder(stamp_bodies=True) as recorder:
        store = ObjectStore(open_store(workload.target, prefix=workload.array.key), read_only=True)
        zarr.open_array(store, mode="r")[:]
    timeline = recorder.timeline()
    assert timeline.valid.ok
    assert all(r.first_byte_ns is not None for r in timeline.requests)
    for request in timeline.requests:
        chunks = sorted((c for c in timeline.chunks if c.request == request.id), key=lambda c: c.offset)
        lasts = [c.last_byte_ns for c in chunks]
        assert lasts == sorted(lasts)
        assert request.first_byte_ns <= chunks[0].first_byte_ns
        assert lasts[-1] <= request.last_byte_ns
        assert len(set(lasts)) > 1  # 590 kB do not come in one piece


def test_objects_that_s3fs_splits_are_one_request_per_part(target):
    workload = made(target, "whole_array", "tiny/large")
    options = {
        "anon": True,
        "endpoint_url": workload.target.endpoint,
        "config_kwargs": {"http_session_cls": traced_session(http_trace())},
        "default_block_size": 100_000,
        "skip_instance_cache": True,
    }
    path = "/".join(filter(None, (target.bucket, target.prefix, workload.array.key)))
    with record() as recording:
        store = FsspecStore.from_url(f"s3://{path}", read_only=True, storage_options=options)
        zarr.open_array(store, mode="r")[:]
    timeline = recording.timeline()
    assert (timeline.valid.failures, timeline.valid.chunks_linked) == ([], workload.wanted_chunks)
    assert NOTE_SPLIT in timeline.notes
    shard = [r for r in timeline.requests if r.key == "c/0/0/0"]
    assert [r.method for r in shard].count("HEAD") == 1
    parts = sorted(r.range for r in shard if r.method == "GET")
    assert len(parts) > 1
    assert [a for a, _ in parts[1:]] == [b for _, b in parts[:-1]]
    by_id = {r.id: r for r in timeline.requests}
    assert all(by_id[c.request].range[0] < c.offset + c.length for c in timeline.chunks)
    assert all(by_id[c.request].range[1] > c.offset for c in timeline.chunks)


def written(tmp_path, workload):
    (tmp_path / "w.json").write_bytes(workloads.encode(workload))
    return str(tmp_path / "w.json"), tmp_path / "t.json"


@pytest.mark.slow
@pytest.mark.parametrize("reader", ZARR_READERS)
def test_zcb_read_writes_a_valid_timeline_with_its_overhead(target, tmp_path, reader):
    workload, file = written(tmp_path, made(target, gap=3))
    arguments = ["read", reader, workload, "--timeline", str(file), "--no-wire", "--pairs", "2"]
    done = CliRunner().invoke(zcb, arguments, catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "4 chunks, 2 requests" in done.stderr
    timeline = model.load(file)
    assert (timeline.valid.ok, timeline.valid.requests_counted, timeline.valid.chunks_wanted) == (True, 2, 4)
    assert (timeline.reader, timeline.target, timeline.workload["digest"]) == (
        reader,
        "embedded:loopback",
        files.load(tmp_path / "w.json").digest,
    )
    assert timeline.versions["zarr"] == zarr.__version__
    assert {r.wire for r in timeline.requests} == {None}
    assert "no wire times: no packets were captured (--no-wire)" in timeline.notes
    assert timeline.overhead.pairs == 2
    assert timeline.overhead.ratio_low <= timeline.overhead.ratio <= timeline.overhead.ratio_high
    raw = json.loads(file.read_bytes())
    assert (raw["schema"], raw["clock"]) == (1, "monotonic_ns")
    assert CliRunner().invoke(zcb, [*arguments[:-1], "0"]).exit_code == 0  # a timeline may be recorded anew
    assert model.load(file).overhead is None


@pytest.mark.slow
@pytest.mark.parametrize("reader", ZARR_READERS)
def test_the_wire_stands_beside_what_the_reader_saw(target, tmp_path, reader):
    if why_not(target) is not None:
        pytest.skip(why_not(target))
    workload, file = written(tmp_path, made(target, "chunks_of_many_shards", shards=4))
    arguments = ["read", reader, workload, "--timeline", str(file), "--pairs", "0"]
    done = CliRunner().invoke(zcb, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    timeline = model.load(file)
    assert (len(timeline.requests), timeline.valid.packets_dropped) == (8, 0)
    for request in timeline.requests:
        assert request.wire.sent_ns < request.wire.first_byte_ns <= request.headers_ns


def run(monkeypatch, capsys, *arguments):
    """Run ``zcb`` as its console script does; return the exit code and what it said on stderr."""
    monkeypatch.setattr("sys.argv", ["zcb", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code, capsys.readouterr().err.strip().splitlines()


def test_a_recording_that_is_not_valid_fails_and_is_marked(target, tmp_path, monkeypatch, capsys):
    workload, file = written(tmp_path, made(target))
    extra = Wanted((9, 9, 9), "c/0/0/0", 1, 2)
    monkeypatch.setattr(timelines, "wanted", lambda w: [extra])
    code, said = run(monkeypatch, capsys, "read", "zarr-python+obstore", workload, "--timeline", file)
    assert code == 4
    assert "1 chunks wanted but not recorded, first (9, 9, 9)" in said[-1]
    timeline = model.load(file)
    assert not timeline.valid.ok
    assert timeline.overhead is None


def test_another_client_of_the_store_makes_a_recording_invalid(target, monkeypatch):
    workload = made(target)
    plain = timelines.Probe.end

    def meddled(probe):
        asyncio.run(
            ObjectStore(open_store(target, prefix=workload.array.key)).get("zarr.json", default_buffer_prototype())
        )
        return plain(probe)

    monkeypatch.setattr(timelines.Probe, "end", meddled)
    timeline = record_timeline("zarr-python+obstore", workload, pairs=0)
    assert timeline.valid.failures == ["2 requests recorded, 3 counted by the store (all)"]


def test_a_file_that_is_no_timeline_is_never_overwritten(target, tmp_path, monkeypatch, capsys):
    workload, _ = written(tmp_path, made(target))
    before = (tmp_path / "w.json").read_bytes()
    code, said = run(monkeypatch, capsys, "read", "zarr-python+obstore", workload, "--timeline", workload)
    assert code == 2
    assert "is not a timeline" in said[-1]
    assert (tmp_path / "w.json").read_bytes() == before


def test_a_reader_without_hooks_says_so(target, tmp_path, monkeypatch, capsys):
    workload, file = written(tmp_path, made(target))
    code, said = run(monkeypatch, capsys, "read", "network-limit", workload, "--timeline", file, "--no-wire")
    assert code == 2
    assert said == [
        "zcb: network-limit cannot be recorded: this library has no hooks for a timeline; "
        "no packets were captured (--no-wire)"
    ]
    assert not file.exists()


def test_a_reader_without_hooks_is_recorded_off_the_wire(target, tmp_path, monkeypatch, capsys):
    if why_not(target) is not None:
        pytest.skip(why_not(target))
    workload, file = written(tmp_path, made(target, gap=3))
    code, _ = run(monkeypatch, capsys, "read", "network-limit", workload, "--timeline", file)
    timeline = model.load(file)
    assert (code, timeline.valid.ok, timeline.valid.chunks_linked) == (0, True, 4)
    assert (timeline.valid.packets_dropped, timeline.overhead) == (0, None)
    assert "the fastest by one try of each" in timeline.notes[-1]
    assert {c.decode_start_ns for c in timeline.chunks} == {None}


def test_a_reader_that_fails_leaves_no_timeline(target, tmp_path, monkeypatch, capsys):
    good = made(target)
    truth = workloads.Truth(decoded_crc32c="AAAAAA==" * 1)
    bad = workloads.msgspec.structs.replace(good, truth=truth)
    workload, file = written(tmp_path, good)
    assert run(monkeypatch, capsys, "read", "zarr-python+obstore", workload, "--timeline", file, "--pairs", "0")[0] == 0
    written(tmp_path, bad)
    code, said = run(monkeypatch, capsys, "read", "zarr-python+obstore", workload, "--timeline", file)
    assert code == 4
    assert "is wrong" in said[-1]
    assert not file.exists()
