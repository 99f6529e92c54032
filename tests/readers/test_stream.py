"""Streams by every reader: the truth of each window, the counts of the store, and no more memory than windows take."""

import math
from pathlib import Path

import msgspec
import obstore
import pytest
from click.testing import CliRunner

from harness.measure.conductor import Conductor, Plan
from harness.results.sample import NETWORK_LIMIT
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.workload import model
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from studies import steady
from tests.support.data import create
from tests.support.readers import OF_ARRAYS

ROWS, ROW_MIB = 8, 4
TALL_MIB = 8
GROWING = {"dask"}
"""docs/patterns.md says by how much."""


@pytest.fixture(scope="module")
def target(embedded_store):
    rows = ["--shape", f"{16 * ROWS},256,512", "--chunks", "4,128,128", "--shards", "16,256,256", "--name", "rows"]
    tall = ["--shape", f"{16 * ROWS},512,512", "--chunks", "4,256,256", "--shards", "16,512,512", "--name", "tall"]
    for shape in (rows, tall):
        create(*shape)
    return resolve("embedded")


@pytest.fixture(scope="module")
def conductor():
    with Conductor(OF_ARRAYS, plan=Plan(samples=1, trials=1)) as one:
        yield one


def made(target, name="rows", window_mib=ROW_MIB, **asked):
    parameters = Parameters(window_mib=window_mib, seconds=0, **asked)
    return create_workload("stream", target, dataset=f"custom/{name}", parameters=parameters)


@pytest.mark.parametrize(("at_once", "window_mib"), [(1, ROW_MIB), (2, ROW_MIB), (1, ROW_MIB // 2)])
def test_every_reader_streams_the_truth_and_counts_what_the_store_counts(target, conductor, at_once, window_mib):
    """Of rows of two shards, whole ones and halves."""
    windows = ROWS * ROW_MIB // window_mib
    work = made(target, window_mib=window_mib, gib=2 * ROWS * ROW_MIB / 1024, concurrent_reads=at_once)
    assert (work.windows, work.stream.loops) == (windows, 2)
    for row in conductor.measure(work):
        assert (row.na, row.error) == (None, None), row.reader
        sample = row.samples[0]  # the limit has more
        assert len(sample.windows) == 2 * math.ceil(windows / at_once)
        assert sum(one.array_bytes for one in sample.windows) == sample.array_bytes == 2 * ROWS * ROW_MIB * 2**20
        assert sum(one.seconds for one in sample.windows) == pytest.approx(sample.seconds)
        assert sample.fetched_bytes >= work.least_bytes == work.wanted_bytes
        if row.reader == NETWORK_LIMIT:
            assert sample.fetched_bytes <= work.wanted_bytes + 4 * ROWS * work.array.index_nbytes


def test_memory_is_that_of_a_window_however_many_there_are(target, conductor):
    peaks = {}
    for count in (ROWS, 3 * ROWS):
        for row in conductor.measure(made(target, "tall", TALL_MIB, gib=count * TALL_MIB / 1024)):
            assert row.error is None, row.reader
            peaks[row.reader, count] = row.samples[0].peak_rss_bytes
    grown = {name: (peaks[name, 3 * ROWS] - peaks[name, ROWS]) / 2**20 for name in OF_ARRAYS}
    of_more = {name: mib for name, mib in grown.items() if mib > 2 * TALL_MIB}  # after 16 windows more
    assert set(of_more) <= GROWING, of_more


def test_the_study_of_memory_has_a_row_for_each_length(target, tmp_path):
    paths = []
    for loops in (1, 2):
        paths.append(str(tmp_path / f"{loops}.json"))
        Path(paths[-1]).write_bytes(model.encode(made(target, gib=loops * ROWS * ROW_MIB / 1024)))
    done = CliRunner().invoke(steady.main, [*paths, "--readers", "tensorstore,zarr-python+obstore"])
    assert done.exit_code == 0, done.output
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["tensorstore"] * 2 + ["zarr-python+obstore"] * 2
    assert [float(row[1]) for row in rows] == [0.0312, 0.0625] * 2
    assert all(float(row[-1]) > ROW_MIB for row in rows)


def test_a_window_that_is_wrong_is_named(target, conductor):
    work = made(target)
    store = open_store(target)
    key = f"{work.array.key}/c/5/0/0"
    good = bytes(obstore.get(store, key).bytes())
    other = bytes(obstore.get(store, f"{work.array.key}/c/4/0/0").bytes())
    obstore.put(store, key, other)
    try:
        damaged = msgspec.structs.replace(work, least_bytes=0)
        rows = {row.reader: row for row in conductor.measure(damaged)}
    finally:
        obstore.put(store, key, good)
    for name in OF_ARRAYS:
        assert "window 5 of custom/rows" in rows[name].error, name
