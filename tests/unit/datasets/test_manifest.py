"""Manifests: what they hold comes back, damage never does, and datasets are found by name."""

import math
import struct
from typing import Any

import google_crc32c
import msgspec
import numpy as np
import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from harness.datasets import manifest
from harness.datasets.manifest import CODECS, DTYPES, PRESETS, SUBCHUNK_ORDERS, DatasetSpec, Manifest
from harness.errors import BadUseError, StoreError
from harness.targets.target import Target
from tests.support.mutations import fuzzed, mutated, read_or_refused

GOOD: dict[str, Any] = {
    "preset": "demo",
    "name": "small",
    "shape": (4, 8, 12),
    "chunk_shape": (1, 2, 3),
    "shard_shape": (2, 4, 6),
    "dtype": "uint16",
    "codec": "zstd",
    "subchunk_order": "c",
    "seed": 1,
}


def some_manifest(**changes) -> Manifest:
    spec = DatasetSpec(**(GOOD | changes))
    random = np.random.default_rng(0)
    stored, decoded = (random.integers(0, 2**32, spec.chunk_grid, np.uint32) for _ in range(2))
    return Manifest(spec=spec, stored_crc32c=stored, decoded_crc32c=decoded)


def put(store, which: Manifest, *, finished: bool = True) -> None:
    obstore.put(store, which.spec.key + ".manifest", which.encode())
    if finished:
        obstore.put(store, f"{which.spec.key}/zarr.json", b"{}")


@st.composite
def specs(draw):
    chunks = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    shards = [length * draw(st.integers(1, 3)) for length in chunks]
    shape = [length * draw(st.integers(1, 3)) for length in shards]
    return DatasetSpec(
        preset=draw(st.sampled_from(PRESETS)),
        name=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,9}", fullmatch=True)),
        shape=tuple(shape),
        chunk_shape=tuple(chunks),
        shard_shape=tuple(shards),
        dtype=draw(st.sampled_from(DTYPES)),
        codec=draw(st.sampled_from(CODECS)),
        subchunk_order=draw(st.sampled_from(SUBCHUNK_ORDERS)),
        seed=draw(st.integers(0, 2**64 - 1)),
    )


@given(spec=specs())
@settings(deadline=None)
def test_what_goes_in_comes_out(spec):
    crcs = np.random.default_rng(0).integers(0, 2**32, (2, *spec.chunk_grid), np.uint32)
    read = Manifest.decode(Manifest(spec=spec, stored_crc32c=crcs[0], decoded_crc32c=crcs[1]).encode())
    assert read.spec == spec
    assert np.array_equal(read.stored_crc32c, crcs[0])
    assert np.array_equal(read.decoded_crc32c, crcs[1])


def test_derived_figures():
    spec = some_manifest().spec
    assert spec.key == "demo/small"
    assert (spec.chunk_grid, spec.shard_grid, spec.chunks_per_shard) == ((4, 4, 4), (2, 2, 2), (2, 2, 2))
    assert (spec.nbytes, spec.shard_nbytes, spec.chunk_nbytes) == (768, 96, 12)


def test_eight_bytes_a_chunk():
    small, large = some_manifest(), some_manifest(shape=(400, 80, 120))
    more = math.prod(large.spec.chunk_grid) - math.prod(small.spec.chunk_grid)
    assert 0 <= len(large.encode()) - len(small.encode()) - 8 * more < 8


def test_every_flipped_bit_is_noticed():
    data = some_manifest().encode()
    for place in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            with pytest.raises(BadUseError, match="manifest"):
                Manifest.decode(bytes(damaged))


def test_every_truncation_and_addition_is_noticed():
    data = some_manifest().encode()
    for length in range(len(data)):
        with pytest.raises(BadUseError, match="manifest"):
            Manifest.decode(data[:length])
    with pytest.raises(BadUseError, match="damaged"):
        Manifest.decode(data + b"\0")


@pytest.mark.parametrize("header", [b"", b"{}", b"[1]", b'{"preset":"demo"}', b"\xff"])
def test_a_header_that_is_no_spec(header):
    with pytest.raises(BadUseError, match="manifest"):
        Manifest.decode(manifest.pack(b"ZCB-MANI", header))


def test_a_header_longer_than_the_manifest():
    data = b"ZCB-MANI" + struct.pack("<II", 1, 2**31) + b"{}"
    with pytest.raises(BadUseError, match="manifest"):
        Manifest.decode(data + struct.pack("<I", google_crc32c.value(data)))


@fuzzed
@given(header=mutated(msgspec.json.encode(some_manifest().spec)), crcs=st.binary(max_size=600))
def test_any_bytes_are_a_manifest_or_refused(header, crcs):
    for data in (manifest.pack(b"ZCB-MANI", header, crcs), b"ZCB-MANI" + header, header):
        found = read_or_refused(Manifest.decode, data)
        assert found is None or found.stored_crc32c.nbytes + found.decoded_crc32c.nbytes == len(crcs)


def test_an_object_larger_than_any_manifest_is_not_fetched(monkeypatch):
    store = MemoryStore()
    put(store, some_manifest())
    monkeypatch.setattr("harness.targets.client._MOST_NBYTES", 100)
    with pytest.raises(StoreError, match="no metadata and no manifest has more than 100"):
        manifest.find(store, "demo/small")


def test_another_version_says_so():
    data = bytearray(some_manifest().encode())
    data[8] = 2
    with pytest.raises(BadUseError, match="version 2"):
        Manifest.decode(bytes(data))


def test_checksums_of_another_shape():
    good = some_manifest()
    with pytest.raises(BadUseError, match="checksums of shape"):
        Manifest(spec=good.spec, stored_crc32c=good.stored_crc32c[:1], decoded_crc32c=good.decoded_crc32c)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"preset": "../x"}, "preset name"),
        ({"name": ".."}, "dataset name"),
        ({"name": "a/b"}, "dataset name"),
        ({"name": "small.manifest"}, "dataset name"),
        ({"name": ""}, "dataset name"),
        ({"name": "x" * 65}, "dataset name"),
        ({"dtype": "complex64"}, "unknown dtype"),
        ({"codec": "gzip"}, "unknown codec"),
        ({"subchunk_order": "hilbert"}, "unknown sub-chunk order"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"shape": ()}, "0 dimensions"),
        ({"shape": (1,) * 17}, "17 dimensions"),
        ({"shape": (4, 8)}, "differ in dimensions"),
        ({"chunk_shape": (1, 2)}, "differ in dimensions"),
        ({"shape": (4, 8, 0)}, "below 1"),
        ({"chunk_shape": (1, -2, 3)}, "below 1"),
        ({"shape": (5, 8, 12)}, "shards 2,4,6 do not divide shape 5,8,12: the nearest that they divide is 4,8,12"),
        ({"shape": (1, 11, 21)}, "shards 2,4,6 do not divide shape 1,11,21: the nearest that they divide is 2,12,24"),
        ({"chunk_shape": (1, 3, 3)}, "chunks 1,3,3 do not divide shards 2,4,6"),
        ({"shape": (2 * 10**30, 8, 12)}, "2\\*\\*60 bytes"),
        ({"shape": (2 * 10**4000, 8, 12)}, "2\\*\\*60 bytes"),
        ({"shape": (2 * 10**9, 8, 12)}, "chunks exceed the limit"),
        ({"shape": (2**24, 4, 6), "shard_shape": (2**24, 4, 6)}, "chunks in a shard exceed"),
        (dict.fromkeys(("shape", "shard_shape", "chunk_shape"), (2**20, 400, 600)), "a chunk of"),
    ],
)
def test_specs_that_cannot_be_written(changes, complaint):
    with pytest.raises(BadUseError, match=complaint) as caught:
        DatasetSpec(**(GOOD | changes))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_bare_name_is_looked_for_in_the_presets_in_order(monkeypatch):
    monkeypatch.delenv("ZCB_PRESET", raising=False)
    store = MemoryStore()
    assert manifest.find(store, "small") is None
    for preset in ("custom", "tiny", "demo"):
        put(store, some_manifest(preset=preset))
        assert manifest.find(store, "small").spec.preset == preset
    assert manifest.find(store, "tiny/small").spec.preset == "tiny"
    monkeypatch.setenv("ZCB_PRESET", "custom")
    assert manifest.find(store, "small").spec.preset == "custom"
    assert manifest.find_all(store) == ["custom/small", "demo/small", "tiny/small"]


def test_an_unfinished_dataset_is_named_as_such():
    store = MemoryStore()
    put(store, some_manifest(), finished=False)
    with pytest.raises(BadUseError, match="unfinished"):
        manifest.find(store, "small")


@pytest.mark.parametrize("name", ["", "/", "demo/", "../demo/small", "demo/small/c", "a b", "x" * 200])
def test_names_that_are_none(name):
    with pytest.raises(BadUseError, match="not a dataset's name"):
        manifest.find(MemoryStore(), name)


def test_load_from_the_store(embedded_store, bucket):
    there = embedded_store.endpoint
    target = Target(name="there", url=f"s3://{bucket}", endpoint=there, region="us-east-1", anonymous=True)
    with pytest.raises(
        BadUseError, match="target there holds no dataset 'small': `zcb data list --target there` lists"
    ):
        manifest.load(target, "small")
    assert manifest.datasets(target) == []


def test_a_missing_bucket_or_store_is_the_stores_trouble(embedded_store):
    options = {"name": "there", "url": "s3://no-such-bucket", "region": "us-east-1", "anonymous": True}
    for endpoint, complaint in ((embedded_store.endpoint, "no such bucket"), ("http://127.0.0.1:1", "cannot reach")):
        target = Target(endpoint=endpoint, **options)
        for ask in (lambda: manifest.load(target, "small"), lambda: manifest.datasets(target)):  # noqa: B023
            with pytest.raises(StoreError, match=complaint):
                ask()
