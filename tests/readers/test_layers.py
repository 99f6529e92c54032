"""Layers above zarr-python: the requests of the reader below, and repositories that hold what the array holds."""

import json
from contextlib import nullcontext

import icechunk
import msgspec
import obstore
import pytest
from click.testing import CliRunner

from harness.errors import BadUseError, UnsupportedError
from harness.measure.timelines import record_timeline
from harness.readers import all_readers, reader_class
from harness.targets.client import open_store
from harness.targets.icechunk import icechunk_storage
from harness.targets.resolve import resolve
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from setup_data.cli import KINDS, data
from tests.support.data import create

BELOW = "zarr-python+obstore"
LAYERS = [name for name, reader in all_readers().items() if reader.layer_over]


@pytest.fixture(scope="module")
def work(embedded_store):
    create("--preset", "tiny", "--dataset", "small", "--as", "icechunk")
    asked = Parameters(shards=4, gap=1)
    return create_workload("chunks_of_many_shards", resolve("embedded"), dataset="tiny/small", parameters=asked)


@pytest.fixture
def requests(work, control):
    """Execute on an open reader: what the store was asked for at the first execution, and what the reader counted."""

    def run(name, **chosen):
        reader = reader_class(name)()
        reader.choose(chosen)
        reader.open(work)
        try:
            reader.reset_request_counts()
            control.mark("layer", log=True)
            reader.check(work, reader.read())
            return control.requests("layer"), reader.request_counts()
        finally:
            reader.close()

    return run


@pytest.mark.parametrize(
    ("name", "chosen"), [("xarray", {}), ("dask", {"chunks": "shards"}), ("dask", {"chunks": "auto"}), ("icechunk", {})]
)
def test_a_layer_asks_for_what_the_reader_below_asks_for(requests, name, chosen):
    below, _ = requests(BELOW)
    asked, counted = requests(name, **chosen)
    assert sorted((one.kind, one.range) for one in asked) == sorted((one.kind, one.range) for one in below)
    if reader_class(name).counts_requests:  # dask must not count in a copy of the store
        assert (counted.requests, counted.index_requests) == (len(asked), 4)


def test_blocks_of_chunks_read_an_index_for_each_chunk(requests, work):
    asked, counted = requests("dask")
    kinds = [one.kind for one in asked]
    assert kinds.count("get_index") == kinds.count("get_data") == work.wanted_chunks
    assert counted.requests == 2 * work.wanted_chunks


def test_what_a_timeline_of_xarray_names_are_the_objects_of_the_array(work):
    timeline = record_timeline("xarray", work, pairs=0, capture=None)
    assert timeline.valid.ok, timeline.valid.failures
    assert {chunk.key for chunk in timeline.chunks} == {request.key for request in timeline.requests}
    assert all(key.startswith("c/") for key in (chunk.key for chunk in timeline.chunks))


def test_a_repository_has_no_timeline_even_of_packets(work):
    with pytest.raises(UnsupportedError, match="names that say nothing of shards"):
        record_timeline("icechunk", work, pairs=0, capture=lambda _: nullcontext())


def test_every_kind_of_store_has_a_reader():
    assert {reader.stored_as for reader in all_readers().values()} - {None} == set(KINDS)
    assert all(all_readers()[name].layer_over in all_readers() for name in LAYERS)


# --- repositories


@pytest.fixture
def written(embedded_store):
    """Create the array `mine` with options; returns the reports by data set, repositories too."""

    def run(*options):
        shapes = ["--name", "mine", "--shape", "4,16,16", "--chunks", "1,8,8", "--shards", "4,8,8"]
        arguments = ["create", "--target", "embedded", *shapes, *options, "--json"]
        done = CliRunner().invoke(data, arguments, catch_exceptions=False)
        return {report["dataset"]: report["status"] for report in json.loads(done.stdout)["datasets"]}

    return run


def test_without_a_repository_the_command_that_writes_it_is_named(written):
    written("--overwrite")
    made = create_workload("whole_array", resolve("embedded"), dataset="custom/mine")
    with pytest.raises(UnsupportedError, match=r"no repository at custom/mine\.icechunk: `zcb data create --as"):
        reader_class("icechunk")().open(made)


def test_a_repository_is_written_once_and_goes_with_its_array(written):
    target = resolve("embedded")
    assert written("--overwrite", "--as", "icechunk") == {"custom/mine": "written", "custom/mine.icechunk": "written"}
    again = written("--as", "icechunk")
    assert again == {"custom/mine": "already written", "custom/mine.icechunk": "already written"}
    stored = obstore.list(open_store(target), "custom/mine.icechunk/chunks/").collect()
    assert len(stored) == 4  # each shard an object, however small
    assert written("--overwrite", "--seed", "9") == {"custom/mine": "written"}
    assert obstore.list(open_store(target), "custom/mine.icechunk/").collect() == []


def test_a_repository_that_was_not_finished_is_written_anew_and_somebody_elses_is_left_alone(written):
    written("--overwrite")
    repository = icechunk.Repository.create(icechunk_storage(resolve("embedded"), "custom/mine"))
    assert written("--as", "icechunk")["custom/mine.icechunk"] == "written"
    repository = icechunk.Repository.open(icechunk_storage(resolve("embedded"), "custom/mine"))
    repository.writable_session("main").commit("mine", allow_empty=True)
    with pytest.raises(BadUseError, match="was made of another custom/mine: replace it with --overwrite"):
        written("--as", "icechunk")


def test_dask_says_of_which_units_of_time_it_makes_others(work):
    days = msgspec.structs.replace(work, array=msgspec.structs.replace(work.array, dtype="datetime64[D]"))
    with pytest.raises(UnsupportedError, match="no unit above a second"):
        reader_class("dask")().open(days)
