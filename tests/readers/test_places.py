"""Arrays in groups, found by their path, and what is said where there is none."""

import json

import numpy as np
import obstore
import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.datasets import places
from harness.errors import BadUseError
from harness.readers import all_readers
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.timeline import model as timelines
from harness.workload.create import create_workload
from setup_data.bucket import ensure_bucket
from setup_data.cli import data
from studies import stored
from tests.support import origin

GROUP2 = json.dumps({"zarr_format": 2}).encode()
ODD = "ä漢 50%"


def elder(**changes):
    return {
        "zarr_format": 2,
        "shape": [4, 6],
        "chunks": [2, 6],
        "dtype": "<i2",
        "compressor": {"id": "zstd", "level": 1},
        "filters": None,
        "order": "C",
        "fill_value": 0,
    } | changes


def younger(**changes):
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4, 6],
        "data_type": "int16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 6]}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "big"}}],
        "attributes": {"scale": float("nan")},
    } | changes


VALUES = np.arange(24, dtype="<i2").reshape(4, 6)


def objects(document, key):
    written = stored.write(document, VALUES, [0, 1], writer="zarr-python")
    return {f"{key}/{name}": body for name, body in written.items()}


def group3(*names):
    members = {name: younger() for name in names}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": members}
    fields = {"zarr_format": 3, "node_type": "group", "attributes": {}, "consolidated_metadata": consolidated}
    return json.dumps(fields).encode()


def group2(*names):
    return json.dumps(
        {"zarr_consolidated_format": 1, "metadata": {f"{one}/.zarray": elder() for one in names}}
    ).encode()


def all_objects():
    """Groups of both formats, with consolidated metadata and without."""
    return {
        "two.zarr/.zgroup": GROUP2,
        "two.zarr/.zmetadata": group2("a", ODD),
        **objects(elder(), "two.zarr/a"),
        **objects(elder(), f"two.zarr/{ODD}"),
        "three.zarr/zarr.json": group3("deep/b"),
        **objects(younger(), "three.zarr/deep/b"),
        "bare.zarr/.zgroup": GROUP2,
        **objects(elder(), "bare.zarr/c"),
        "bare.zarr/empty/.zarray": json.dumps(elder(shape=[0, 6])).encode(),
        "bare.zarr/one/.zarray": json.dumps(elder(shape=[], chunks=[])).encode(),
        "bare.zarr/coded/.zarray": json.dumps(elder(compressor={"id": "unheard-of"})).encode(),
    }


@pytest.fixture(scope="module")
def http():
    with origin.serving(origin.Origin(objects={f"/{key}": body for key, body in all_objects().items()})) as server:
        yield server.address


@pytest.fixture(scope="module")
def s3_target(embedded_store, rust_reader):
    target = resolve("embedded")
    ensure_bucket(target)
    for key, body in all_objects().items():
        obstore.put(open_store(target, prefix="places"), key, body)
    return target


def refused(target, path=None):
    with pytest.raises(BadUseError) as error:
        create_workload("whole_array", resolve(target) if isinstance(target, str) else target, array=path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_group_names_its_arrays(http):
    assert refused(f"{http}/two.zarr").endswith(f"is a group, not an array: name an array by --array: a, {ODD}")
    assert refused(f"{http}/three.zarr").endswith("name an array by --array: deep/b")
    assert refused(f"{http}/bare.zarr").endswith("is a group, not an array: name one of its arrays by --array PATH")
    assert refused(f"{http}/two.zarr", "z").endswith(f"has no array 'z': name an array by --array: a, {ODD}")


def test_a_group_that_can_be_listed_names_its_arrays(s3_target):
    named = ", ".join(f"places/bare.zarr/{name}" for name in ("c", "coded", "empty", "one"))
    assert refused(s3_target, "places/bare.zarr").endswith(f"name an array by --array: {named}")


@pytest.mark.parametrize("path", ["", "..", "a/../b", "a//b", "a\nb"])
def test_a_path_that_is_none_is_refused(http, path):
    assert "is no path of an array" in refused(f"{http}/two.zarr", path)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("empty", "'empty' is empty, its shape is 0,6: there is nothing to read"),
        ("one", "'one' has no dimensions: it is one element, so there is nothing to read in parts"),
        ("nothing", "has no array 'nothing': name one of its arrays by --array PATH"),
    ],
)
def test_an_array_of_nothing_is_refused(http, path, complaint):
    assert refused(f"{http}/bare.zarr", path).endswith(complaint)


@pytest.mark.parametrize(("group", "path"), [("two.zarr", "a"), ("two.zarr", ODD), ("three.zarr", "deep/b")])
def test_an_array_is_found_by_its_path(http, group, path):
    array = places.below(resolve(f"{http}/{group}"), path)
    assert (array.key, array.shape, array.is_sharded, array.dtype) == (path, (4, 6), False, "int16")


def test_the_commands_list_and_read_an_array_in_a_group(http, tmp_path):
    runner, file = CliRunner(), tmp_path / "w.json"
    shown = runner.invoke(data, ["list", "--target", f"{http}/two.zarr", "--json"])
    assert [one["key"] for one in json.loads(shown.output)["datasets"]] == ["a", ODD]
    asked = ["workload", "whole_array", "--target", f"{http}/two.zarr", "--array", ODD, "-o", str(file)]
    done = runner.invoke(zcb, asked)
    assert done.exit_code == 0, done.output
    assert "2 chunks of 2 objects" in done.output
    read = runner.invoke(zcb, ["read", "zarr-python+obstore,tensorstore", str(file), "--samples", "1", "--json"])
    assert read.exit_code == 0, read.output
    assert [(one["reader"], len(one["samples"])) for one in json.loads(read.stdout)] == [
        ("zarr-python+obstore", 1),
        ("tensorstore", 1),
    ]
    asked = ["workload", "whole_array", "--target", f"{http}/bare.zarr", "--array", "coded", "-o", str(tmp_path / "x")]
    failed = runner.invoke(zcb, asked)
    assert "no two independent readers can read it: zarr-python+obstore: " in str(failed.exception)
    assert str(failed.exception).count("unheard-of") >= 2  # each by its library's own words
    assert not (tmp_path / "x").exists()


def test_bare_nan_in_attributes_is_no_obstacle_to_a_truth(http, tmp_path):
    """tensorstore refuses such a document, and reads the same array by metadata that are given to it."""
    file = tmp_path / "w.json"
    asked = ["workload", "whole_array", "--target", f"{http}/three.zarr", "--array", "deep/b", "-o", str(file)]
    done = CliRunner().invoke(zcb, asked)
    assert done.exit_code == 0, done.exception
    assert "the truth is what zarr-python+obstore and tensorstore agree on" in done.output
    rows = CliRunner().invoke(zcb, ["read", "all", str(file), "--samples", "1", "--json"])
    assert rows.exit_code == 0, rows.exception
    found = {row["reader"]: row for row in json.loads(rows.stdout)}
    for name, row in found.items():
        assert row.get("error") is None, (name, row["error"])
    assert "Invalid JSON" in found["tensorstore"]["na"]
    assert found["zarr-python+fsspec"]["samples"][0]["verified"]


@pytest.mark.parametrize(
    "command",
    [
        ["read", "zarr-python+obstore", "--samples", "1"],
        ["sweep", "in-flight", "--readers", "zarr-python+obstore", "--values", "2", "--samples", "1"],
        ["tune", "zarr-python+obstore", "--seconds", "0"],
    ],
)
def test_every_command_takes_an_array_of_format_2(http, tmp_path, monkeypatch, command):
    monkeypatch.setenv("ZCB_TUNINGS", str(tmp_path / "tunings.toml"))
    runner, file = CliRunner(), tmp_path / "w.json"
    runner.invoke(zcb, ["workload", "whole_array", "--target", f"{http}/two.zarr", "--array", "a", "-o", str(file)])
    done = runner.invoke(zcb, [*command, str(file)])
    assert done.exit_code == 0, done.exception


WITH_HOOKS = [
    name
    for name, reader in all_readers().items()
    if reader.records_timelines and reader.competes_for is None and reader.layer_over is None
]


@pytest.mark.parametrize("name", WITH_HOOKS)
def test_a_timeline_of_an_array_without_shards_has_all_of_its_chunks(s3_target, tmp_path, name):
    """Each chunk is an object of its own: no index is asked for, and every chunk has its events."""
    file, drawn = tmp_path / "w.json", tmp_path / "t.json"
    asked = ["workload", "whole_array", "--target", "embedded", "--array", "places/two.zarr/a", "-o", str(file)]
    assert CliRunner().invoke(zcb, asked).exit_code == 0
    done = CliRunner().invoke(zcb, ["read", name, str(file), "--timeline", str(drawn)])
    assert done.exit_code == 0, done.exception
    taken = timelines.load(drawn)
    assert taken.valid.ok, taken.valid
    assert {one.kind for one in taken.requests if one.kind != "metadata"} == {"data"}
    assert sorted(one.chunk for one in taken.chunks) == [(0, 0), (1, 0)]
    for one in taken.chunks:
        times = [one.sent_ns, one.first_byte_ns, one.last_byte_ns]
        times += [one.decode_start_ns] if one.decode_start_ns is not None or not taken.notes else []
        assert None not in times
        assert times == sorted(times)
