"""The geometry of an array, from the metadata of either format."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given

from harness.datasets.array import ArrayInfo, element_type
from harness.datasets.metadata import of_metadata, of_metadata2
from harness.errors import BadUseError
from setup_data import presets
from setup_data.encode import zarr_json
from tests.support.mutations import fuzzed, mutated, read_or_refused


def metadata(**changes):
    (spec,) = presets.specs("tiny", ("small",))
    return json.loads(zarr_json(spec)) | changes


def sharding(**changes):
    (codec,) = metadata()["codecs"]
    return [codec | {"configuration": codec["configuration"] | changes}]


def elder(**changes):
    return {
        "zarr_format": 2,
        "shape": [9, 7],
        "chunks": [4, 7],
        "dtype": "<f4",
        "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
        "filters": [{"id": "delta", "dtype": "<f4"}],
        "fill_value": None,
        "order": "F",
    } | changes


def described(document):
    parse = of_metadata2 if document.get("zarr_format") == 2 and "node_type" not in document else of_metadata
    return parse("a.zarr", json.dumps(document).encode())


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
CRC = {"name": "crc32c"}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (metadata(), {"zarr_format": 3, "index_location": "end", "codec": "zstd", "chunk_shape": (1, 16, 16)}),
        (metadata(codecs=[LITTLE]), {"index_location": "none", "codec": "none", "chunk_shape": (64, 16, 16)}),
        (
            metadata(codecs=[*sharding(), {"name": "gzip"}]),
            {"index_location": "none", "codec": "sharding_indexed+gzip"},
        ),
        (metadata(codecs=["transpose", *sharding()]), {"index_location": "none", "codec": "sharding_indexed"}),
        (metadata(codecs=sharding(index_location="start")), {"index_location": "start", "index_checksum": True}),
        (metadata(codecs=sharding(index_codecs=[LITTLE])), {"index_checksum": False, "index_endian": "little"}),
        (metadata(codecs=sharding(index_codecs=[BIG, CRC])), {"index_checksum": True, "index_endian": "big"}),
        (metadata(codecs=sharding(codecs=sharding())), {"codec": "sharding_indexed", "index_location": "end"}),
        (metadata(chunk_key_encoding={"name": "v2"}), {"key_encoding": "v2", "separator": "."}),
        (metadata(chunk_key_encoding="default"), {"key_encoding": "default", "separator": "/"}),
        (
            metadata(chunk_key_encoding={"name": "default", "configuration": {"separator": "."}}),
            {"key_encoding": "default", "separator": "."},
        ),
        (metadata(data_type="complex64"), {"dtype": "complex64"}),
        (
            metadata(data_type={"name": "numpy.datetime64", "configuration": {"unit": "ns", "scale_factor": 1}}),
            {"dtype": "M8[ns]"},
        ),
        (metadata(data_type={"name": "null_terminated_bytes", "configuration": {"length_bytes": 5}}), {"dtype": "S5"}),
        (metadata(extra={"must_understand": False}), {"zarr_format": 3, "nan_payload": False}),
        (metadata(data_type="float16", fill_value="0x7e05"), {"nan_payload": True}),
        (metadata(data_type="complex64", fill_value=["NaN", "0x7fc00005"]), {"nan_payload": True}),
        (metadata(data_type="float32", fill_value="NaN"), {"nan_payload": False}),
        (metadata(attributes={"scale": float("nan")}), {"zarr_format": 3}),
        (elder(), {"zarr_format": 2, "codec": "delta+blosc", "separator": ".", "dtype": "float32"}),
        (elder(dtype=">i2", compressor=None, filters=None), {"codec": "none", "dtype": "int16"}),
        (
            elder(dtype="<M8[D]", dimension_separator="/"),
            {"dtype": "M8[D]", "separator": "/", "index_location": "none"},
        ),
        (elder(dtype="|S3"), {"dtype": "S3", "key_encoding": "v2", "shard_shape": (4, 7)}),
    ],
)
def test_what_metadata_say_of_an_array(document, expected):
    array = described(document)
    assert {name: getattr(array, name) for name in expected} == expected
    assert array.subchunk_order == "unknown"


def test_an_array_as_our_data_sets_are_is_described_in_few_words():
    array = described(metadata())
    assert set(msgspec.to_builtins(array)) == {
        *("key", "shape", "chunk_shape", "shard_shape", "dtype", "codec", "subchunk_order"),
    }
    assert msgspec.convert(msgspec.to_builtins(array), ArrayInfo) == array


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({}, "c/3/10"),
        ({"separator": "."}, "c.3.10"),
        ({"key_encoding": "v2", "separator": "."}, "3.10"),
        ({"key_encoding": "v2"}, "3/10"),
    ],
)
def test_the_key_of_an_object(changes, key):
    assert msgspec.structs.replace(described(metadata()), **changes).object_key((3, 10)) == key


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (metadata(node_type="group"), "is a group of Zarr v3"),
        (metadata(zarr_format=2), "is a array of Zarr v2"),
        (metadata(codecs=sharding(index_codecs=[LITTLE, {"name": "gzip"}])), "encoded by bytes, gzip, not as usual"),
        (metadata(codecs=sharding(index_location="middle")), "is not an array's metadata"),
        (metadata(codecs=sharding(chunk_shape=[1, 16, 5])), "do not divide"),
        (metadata(codecs=sharding(chunk_shape=[1, 16])), "differ in dimensions"),
        (metadata(codecs=sharding(chunk_shape=[0, 16, 16])), "has a length below 1: it is empty"),
        (metadata(codecs=sharding(chunk_shape="x")), "is not an array's metadata"),
        (metadata(shape=[64, 0, 128]), "is empty, its shape is 64,0,128: there is nothing to read"),
        (metadata(shape=[]), "has no dimensions: it is one element"),
        (metadata(data_type="string"), "elements of type string"),
        (metadata(data_type={"name": "odd"}), "elements of type {'name'"),
        (metadata(data_type="f8,(2"), "elements of type f8,(2"),
        (metadata(chunk_grid={"name": "rectilinear"}), "grid of kind 'rectilinear'"),
        (metadata(chunk_key_encoding={"name": "fanout"}), "chunk key encoding 'fanout'"),
        (metadata(storage_transformers=[{"name": "x"}]), "storage transformers"),
        (elder(shape=[0, 7]), "is empty"),
        (elder(shape=[], chunks=[]), "has no dimensions"),
        (elder(dtype="|O"), "elements of type |O"),
        (elder(dtype=[["a", "<i4"]]), "elements of type [['a', '<i4']]"),
        (elder(dtype="|S0"), "elements of type |S0"),
        (elder(chunks=[4]), "differ in dimensions"),
        (elder(dimension_separator="-"), "is not an array's metadata"),
        ([], "is not an array's metadata"),
        ({}, "is not an array's metadata"),
    ],
)
def test_metadata_that_cannot_be_measured_are_refused_in_a_line(document, complaint):
    with pytest.raises(BadUseError) as error:
        described(document) if isinstance(document, dict) else of_metadata("a.zarr", json.dumps(document).encode())
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("parse", [of_metadata, of_metadata2])
def test_bytes_that_are_no_json_are_refused(parse):
    for document in (b"\xff\x00", b"[" * 100_000):
        with pytest.raises(BadUseError, match="is not an array's metadata"):
            parse("a.zarr", document)


@fuzzed
@given(document=mutated(json.dumps(metadata()).encode()) | mutated(json.dumps(elder()).encode()))
def test_any_metadata_are_an_array_or_refused(document):
    for parse in (of_metadata, of_metadata2):
        array = read_or_refused(lambda body, parse=parse: parse("a.zarr", body), document)
        if array is not None:
            assert element_type(array.dtype) == np.dtype(array.dtype)
            assert len(array.shape) == len(array.chunk_shape) == len(array.shard_shape)
