"""Workload files: any bytes are a workload that can be executed, or refused in one line."""

import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.array import MAX_CHUNKS, ArrayInfo
from harness.errors import BadUseError
from harness.targets.target import Target
from harness.workload import files, model, training
from harness.workload.patterns import Parameters, selection_shape
from harness.workload.selections import chunks_touched, pieces
from harness.workload.truth import Truth
from tests.support.mutations import fuzzed, mutated, read_or_refused

GOOD = model.encode(
    model.Workload(
        schema=1,
        pattern="chunks_of_one_shard",
        parameters=Parameters(gap=0),
        target=Target(name="embedded", url="s3://bench", profile="s3"),
        array=ArrayInfo(
            key="tiny/small",
            shape=(8, 4),
            chunk_shape=(1, 2),
            shard_shape=(4, 4),
            dtype="uint16",
            codec="none",
            subchunk_order="c",
        ),
        in_flight=100,
        reads=(((0, 4, 1), (0, 4, 1)), ((1, 8, 2), (0, 2, 1))),
        array_bytes=48,
        wanted_chunks=12,
        wanted_bytes=48,
        wanted_shards=2,
        gap_bytes=(3,),
        truth=Truth(decoded_crc32c="AAAA" * 16),
    )
)


@fuzzed
@given(data=mutated(GOOD))
def test_any_bytes_are_a_workload_or_refused(data):
    workload = read_or_refused(model.decode, data)
    if workload is None:
        return
    assert workload.label
    assert len(workload.digest) == 16
    for read in workload.reads:
        assert all(length > 0 for length in selection_shape(read))
        assert next(iter(pieces(read, workload.array.chunk_shape))).chunk


TRAINING = msgspec.json.encode(
    {
        "schema": 1,
        "pattern": "training",
        "workloads": [msgspec.json.decode(GOOD) | {"truth": {"reads_crc32c": "AAAAAAAAAAA="}}],
        "epochs": 1,
        "batches": 2,
        "batch": 1,
        "ahead": 0,
        "index": "cold",
        "shuffle": "",
    }
)


@fuzzed
@given(data=mutated(TRAINING))
def test_any_bytes_are_a_training_workload_or_refused(data):
    found = read_or_refused(training.decode, data)
    assert found is None or len(found.numbers(0)) == found.batches


def test_a_training_workload_is_one_before_it_is_changed():
    assert training.decode(TRAINING).samples_per_epoch == 2


@pytest.mark.parametrize("dtype", ["f8,(2", "(3,)i4", "U9", "O", "", "\0", "x" * 10_000])
def test_a_type_that_is_none_is_refused(dtype):
    fields = msgspec.json.decode(GOOD)
    fields["array"]["dtype"] = dtype
    with pytest.raises(BadUseError, match="is not a workload file") as refused:
        model.decode(msgspec.json.encode(fields))
    assert "\n" not in str(refused.value)


def test_a_selection_of_more_chunks_than_any_data_set_has_is_refused():
    fields = msgspec.json.decode(GOOD)
    size = 1 << 25
    fields["array"] |= {"shape": [size], "chunk_shape": [1], "shard_shape": [1], "dtype": "uint8"}
    fields |= {"reads": [[[0, size, 1]]], "array_bytes": size}
    with pytest.raises(BadUseError, match=f"touch {size} chunks, more than {MAX_CHUNKS}"):
        model.decode(msgspec.json.encode(fields))


@given(start=st.integers(0, 30), length=st.integers(1, 30), step=st.integers(1, 9), size=st.integers(1, 9))
def test_chunks_are_counted_without_being_listed(start, length, step, size):
    read = ((start, start + length, step), (0, 5, 2))
    assert chunks_touched(read, (size, 2)) == sum(1 for _ in itertools.islice(pieces(read, (size, 2)), 1000))


def test_a_file_without_an_end_is_not_read_to_it():
    with pytest.raises(BadUseError, match="cannot read /dev/zero: File too large"):
        files.load(Path("/dev/zero"))
