"""tunings.toml: what is kept, what is found again, and for what it holds."""

import tomllib

import msgspec
import pytest

from harness.datasets.array import ArrayInfo
from harness.errors import BadUseError, UnsupportedError
from harness.readers import reader_class, tunings
from harness.readers.settings import Given
from harness.readers.tunings import Trial, Tuning
from harness.targets.target import Target
from harness.workload.model import Workload
from harness.workload.patterns import Parameters
from harness.workload.truth import Truth


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("ZCB_TUNINGS", str(tmp_path / "tunings.toml"))
    return tmp_path / "tunings.toml"


TARGET = Target(name="embedded", url="s3://bench", endpoint="http://127.0.0.1:1", anonymous=True, profile="s3")
WORKLOAD = Workload(
    schema=1,
    pattern="whole_array",
    parameters=Parameters(),
    target=TARGET,
    array=ArrayInfo(
        key="demo/a", shape=(4,), chunk_shape=(1,), shard_shape=(4,), dtype="uint16", codec="none", subchunk_order="c"
    ),
    in_flight=100,
    reads=(((0, 4, 1),),),
    array_bytes=8,
    wanted_chunks=4,
    wanted_bytes=8,
    wanted_shards=1,
    gap_bytes=(),
    truth=Truth(decoded_crc32c=""),
)
TRIAL = Trial(
    settings={"RAYON_NUM_THREADS": "in-flight", "a.b": -1, "c": True},
    against={},
    outcome="failed",
    reason='it said "no" \\ and\nmore',
    seconds=[1.5, 1e-05],
)
TUNING = Tuning(
    reader="zarrs-python+obstore",
    target="embedded:s3",
    pattern="whole_array",
    dataset="demo/a",
    in_flight=100,
    settings={"RAYON_NUM_THREADS": "in-flight", "codec_pipeline.chunk_concurrent_minimum": 32},
    complete=True,
    workload="whole_array a",
    digest="0",
    link="lo",
    cores=2,
    versions={"zarrs": "0.2.3"},
    started="2026-11-27T03:09:22+00:00",
    search_seconds=1.0,
    trials=[TRIAL, msgspec.structs.replace(TRIAL, outcome="better", ratio=0.5, low=0.4, high=0.6)],
)


def changed(**fields):
    return msgspec.structs.replace(TUNING, **fields)


def test_what_is_kept_is_found_again(file):
    assert tunings.load() == []
    assert tunings.keep(TUNING) == file
    assert tunings.load() == [TUNING]
    assert tomllib.loads(file.read_text())["tuning"][0]["trials"][1]["ratio"] == 0.5


def test_a_new_search_takes_the_place_of_an_older_one_for_the_same():
    tunings.keep(TUNING)
    tunings.keep(changed(dataset="demo/b"))
    tunings.keep(changed(cores=9, trials=[]))
    assert [(one.dataset, one.cores) for one in tunings.load()] == [("demo/a", 9), ("demo/b", 2)]


def test_a_tuned_reader_is_given_what_was_found():
    tuned = reader_class("zarrs-python+obstore+tuned")
    tunings.keep(TUNING)
    expected = Given({"RAYON_NUM_THREADS": "100"}, {"codec_pipeline.chunk_concurrent_minimum": 32})
    assert tunings.given_for(tuned, WORKLOAD) == expected
    assert tunings.given_for(reader_class("zarrs-python+obstore"), WORKLOAD) == Given({}, {})
    over_network = msgspec.structs.replace(WORKLOAD, target=msgspec.structs.replace(TARGET, link="veth"))
    assert tunings.given_for(tuned, over_network) == expected


@pytest.mark.parametrize(
    "other",
    [{"reader": "zarrs"}, {"target": "embedded:loopback"}, {"pattern": "x"}, {"dataset": "b"}, {"in_flight": 10}],
)
def test_it_holds_for_nothing_else(other):
    tunings.keep(changed(**other))
    with pytest.raises(UnsupportedError, match=r"not tuned at embedded:s3 .*: `zcb tune zarrs-python\+obstore w.json`"):
        tunings.given_for(reader_class("zarrs-python+obstore+tuned"), WORKLOAD)


def test_a_setting_of_another_version_is_refused():
    tunings.keep(changed(settings={"threads": 3}))
    with pytest.raises(BadUseError, match=r"tunings.toml: zarrs-python\+obstore: there is no setting 'threads'"):
        tunings.given_for(reader_class("zarrs-python+obstore+tuned"), WORKLOAD)


@pytest.mark.parametrize("text", ["[[tuning]", "[[tuning]]\nreader = 3", "tuning = 3"])
def test_a_malformed_file_is_said_in_a_line(file, text):
    file.write_text(text)
    with pytest.raises(BadUseError, match=r"tunings.toml: ") as error:
        tunings.load()
    assert "\n" not in str(error.value)
