"""Timelines of the Rust readers: valid against indexes and the store's counters; and the model against one."""

from itertools import pairwise

import google_crc32c
import pytest

from harness.measure.timelines import record_timeline
from harness.store import lifecycle
from harness.store.lifecycle import StoreSettings
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.timeline.linking import NOTE_UNSEEN_COPY, Decode, link_decodes
from harness.timeline.schedule import analyse
from harness.timeline.validity import wanted
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.support.data import create

PATTERNS = {
    "whole_array": Parameters(),
    "chunks_of_one_shard": Parameters(gap=3),
    "chunks_of_many_shards": Parameters(shards=4),
}


@pytest.fixture(scope="module")
def target(embedded_store, rust_reader):
    create("--preset", "tiny")
    return resolve("embedded")


def recorded(reader, pattern, target, dataset="small"):
    workload = create_workload(pattern, target, dataset=dataset, parameters=PATTERNS[pattern])
    return workload, record_timeline(reader, workload, pairs=0)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dataset", ["small", "large"])
def test_zarrs_planned_tells_all_five_events(target, pattern, dataset):
    workload, timeline = recorded("zarrs-planned", pattern, target, dataset)
    assert timeline.valid.failures == []
    assert timeline.valid.chunks_linked == workload.wanted_chunks
    for chunk in timeline.chunks:
        assert chunk.sent_ns < chunk.first_byte_ns <= chunk.last_byte_ns <= chunk.decode_start_ns
        assert chunk.decode_start_ns < chunk.decoded_ns <= chunk.copy_start_ns <= chunk.copied_ns <= timeline.end_ns


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dataset", ["small", "large"])
def test_zarrs_tells_its_requests_and_what_its_codecs_decode(target, pattern, dataset):
    workload, timeline = recorded("zarrs", pattern, target, dataset)
    assert timeline.valid.failures == []
    assert timeline.valid.requests_recorded == timeline.valid.requests_counted
    assert len(timeline.chunks) == workload.wanted_chunks
    assert all(chunk.decode_start_ns < chunk.decoded_ns for chunk in timeline.chunks)
    into_place = pattern == "whole_array"
    assert all((chunk.copied_ns is not None) == into_place for chunk in timeline.chunks)
    assert (NOTE_UNSEEN_COPY in timeline.notes) == (not into_place)
    # Two decodes never overlap in a thread.
    by_thread: dict[int, list[tuple[int, int]]] = {}
    for chunk in timeline.chunks:
        by_thread.setdefault(chunk.thread, []).append((chunk.decode_start_ns, chunk.decoded_ns))
    for decodes in map(sorted, by_thread.values()):
        assert all(end <= begin for (_, end), (begin, _) in pairwise(decodes))


def test_a_decode_belongs_to_the_chunk_with_its_bytes_and_nothing_is_guessed(target):
    workload, timeline = recorded("zarrs", "chunks_of_one_shard", target)
    truth = {chunk.chunk: chunk.decode_start_ns for chunk in timeline.chunks}
    crcs = crcs_of(workload)
    decodes = [
        Decode(length=c.length, crc32c=crcs[c.chunk], thread=1, begin_ns=c.decode_start_ns, end_ns=c.decoded_ns,
               copied_ns=None)
        for c in reversed(timeline.chunks)
    ]  # fmt: skip
    for chunk in timeline.chunks:
        chunk.decode_start_ns = chunk.decoded_ns = None
    link_decodes(timeline, [*decodes[1:], decodes[1]], workload)
    unknown = {timeline.chunks[-1].chunk, timeline.chunks[-2].chunk}  # no decode, and two
    assert {c.chunk for c in timeline.chunks if c.decode_start_ns is None} == unknown
    assert all(c.decode_start_ns == truth[c.chunk] for c in timeline.chunks if c.chunk not in unknown)
    assert f"event 4 is unknown for 2 of {len(truth)} chunks: their decodes cannot be told apart" in timeline.notes


def crcs_of(workload):
    store = open_store(workload.target, prefix=workload.array.key)
    return {
        one.chunk: google_crc32c.value(bytes(store.get_range(one.key, start=one.offset, length=one.length)))
        for one in wanted(workload)
    }


@pytest.mark.alone
@pytest.mark.parametrize("pattern", ["chunks_of_one_shard", "chunks_of_many_shards"])
def test_the_optimum_of_planned_is_what_planned_does(own_state, pattern):
    """A reader that sends at once and decodes at once leaves the model nothing: 20 ms per request decide, not noise."""
    lifecycle.start(StoreSettings(profile="s3"))
    create("--preset", "tiny")
    _, timeline = recorded("zarrs-planned", pattern, resolve("embedded"))
    analysis = analyse(timeline)
    assert timeline.valid.failures == []
    assert (timeline.connection_bytes_per_second, timeline.link_bytes_per_second) == (90e6, 250e6)
    assert 0.9 < analysis.seconds / analysis.optimum_seconds < 1.5, analysis.sentence
