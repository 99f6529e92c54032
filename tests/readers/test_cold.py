"""Cold executions: what the store is asked for in each turn of a round, and what is said where that cannot be."""

import itertools

import pytest

from harness.measure.conductor import Conductor, Plan
from harness.measure.process import WorkerProcess
from harness.results.sample import FLAG_HOT
from harness.targets.resolve import resolve
from harness.workload.create import create_workload, elsewhere
from harness.workload.patterns import Parameters
from harness.workload.selections import chunks_by_shard, wanted_chunks
from tests.support.data import create
from tests.support.readers import OF_ARRAYS


@pytest.fixture(scope="module")
def target(embedded_store):
    shape = ["--shape", "16,128,128", "--chunks", "1,16,16", "--shards", "16,16,16", "--codec", "none"]
    create("--name", "many", *shape)  # 64 shards beside each other
    return resolve("embedded")


def few_chunks(target, **asked):
    pattern = "chunks_of_many_shards" if "shards" in asked else "chunks_of_one_shard"
    return create_workload(pattern, target, dataset="custom/many", parameters=Parameters(gap=1, **asked))


def shards_of(workload):
    wanted = [chunk for read in workload.reads for chunk in wanted_chunks(workload.array, read)]
    return set(chunks_by_shard(workload.array, wanted))


@pytest.mark.parametrize(("asked", "sets"), [({}, 63), ({"shards": 4}, 15), ({"shards": 64}, 0)])
def test_moved_reads_share_no_shard_and_want_as_much(target, asked, sets):
    workload = few_chunks(target, **asked)
    found = elsewhere(workload, 1000)
    assert len(found) == sets
    for one, other in itertools.combinations([workload, *found], 2):
        assert not shards_of(one) & shards_of(other)
    for one in found:
        assert (one.wanted_chunks, one.wanted_shards) == (workload.wanted_chunks, workload.wanted_shards)
        assert one.array_bytes == workload.array_bytes
        assert one.truth != workload.truth
    assert elsewhere(workload, 3) == found[:3]


@pytest.fixture
def turns(control, monkeypatch):
    """What each cold execution asked the store for: (discarded, shards)."""
    seen, asked = [], WorkerProcess.require

    def require(self, request, timeout):
        if request["op"] == "select":
            self.selected = True
        if request["op"] != "sample" or not getattr(self, "selected", False):
            return asked(self, request, timeout=timeout)  # from several threads at once
        control.mark("turn", log=True)
        answer = asked(self, request, timeout=timeout)
        seen.append((request["discard"], {r.key for r in control.requests("turn") if "/c/" in r.key}))
        return answer

    monkeypatch.setattr(WorkerProcess, "require", require)
    return seen


def test_every_timed_execution_of_a_round_reads_objects_of_its_own(target, turns, rust_reader):
    with Conductor(OF_ARRAYS, plan=Plan(samples=2, trials=1, cold=True)) as conductor:
        rows = conductor.measure(few_chunks(target))
    assert {row.reader: row.error for row in rows if row.error} == {}
    assert all(sample.cold and FLAG_HOT not in sample.flags for row in rows for sample in row.samples)
    a_round = 2 * len(OF_ARRAYS) + 1
    timed = [keys for discarded, keys in turns if not discarded]
    assert len(timed) == 2 * a_round
    assert all(timed)
    for of_round in (timed[:a_round], timed[a_round:]):
        assert len(set().union(*of_round)) == sum(map(len, of_round))
    warm = set().union(*(keys for discarded, keys in turns if discarded))
    assert not warm & set().union(*timed)


def test_too_few_objects_are_measured_hot_and_it_is_said(target, logged):
    with Conductor(["zarr-python+obstore"], plan=Plan(samples=1, trials=1, cold=True)) as conductor:
        rows = conductor.measure(few_chunks(target, shards=64))
    assert [row.error for row in rows] == [None, None]
    assert all(FLAG_HOT in sample.flags and sample.cold is False for row in rows for sample in row.samples)
    assert any(
        "measured hot: a round of 3 executions takes as many disjoint sets of objects" in line for line in logged
    )


def test_hot_is_a_choice_and_no_mark(target):
    with Conductor(["zarr-python+obstore"], plan=Plan(samples=1, trials=1)) as conductor:
        rows = conductor.measure(few_chunks(target))
    assert all(FLAG_HOT not in sample.flags and sample.cold is False for row in rows for sample in row.samples)
