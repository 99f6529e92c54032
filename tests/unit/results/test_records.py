"""Pass records: what asv's result files do not hold is written, found again, and never mistaken for a result."""

import dataclasses
import datetime
import os

import msgspec
import pytest
from asv.results import get_filename
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.array import ArrayInfo
from harness.errors import BadUseError, MeasurementError
from harness.measure.conductor import Plan, Row
from harness.measure.recording import write_pass
from harness.results import records
from harness.results.sample import Sample
from harness.targets.target import Target
from harness.workload.model import Workload
from harness.workload.patterns import Parameters
from harness.workload.truth import Truth
from tests.support.mutations import fuzzed, mutated, read_or_refused

STARTED = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def workload():
    array = ArrayInfo(
        key="tiny/small",
        shape=(4,),
        chunk_shape=(1,),
        shard_shape=(4,),
        dtype="uint16",
        codec="none",
        subchunk_order="c",
    )
    return Workload(
        schema=1,
        pattern="chunks_of_one_shard",
        parameters=Parameters(gap=0),
        target=Target(name="embedded", url="s3://bench", profile="s3"),
        array=array,
        in_flight=100,
        reads=(((0, 4, 1),),),
        array_bytes=8,
        wanted_chunks=4,
        wanted_bytes=8,
        wanted_shards=1,
        gap_bytes=(),
        truth=Truth(decoded_crc32c=""),
    )


@pytest.fixture
def sample():
    return Sample(
        seconds=0.5,
        array_bytes=8,
        calls=1,
        nic_rx_bytes=None,
        nic_rx_packets=None,
        cpu_seconds=0.1,
        peak_rss_bytes=None,
        flags=["cpu-bound"],
        verified=True,
    )


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "asv.conf.json"
    path.write_text(
        '{"version": 1, "project": "x", "repo": "nowhere", "dvcs": "git", "branches": ["main"],'
        ' "results_dir": "results", "build_command": ["true"]}'
    )
    return path


@pytest.fixture
def kept(config, workload, sample, monkeypatch):
    monkeypatch.setenv(records.FOLDER_VARIABLE, str(config.parent / "results" / "box" / "passes"))
    monkeypatch.setenv("ASV_COMMIT", COMMIT)
    monkeypatch.setenv("ASV_ENV_NAME", "virtualenv-py3.13")
    rows = [
        Row(
            reader="good",
            workload=workload,
            versions={"zarr": "3.3.0"},
            samples=[sample, sample],
            environment=["AWS_ACCESS_KEY_ID", "PATH"],
        ),
        Row(reader="other", workload=workload, na="cannot stride"),
        Row(reader="broken", workload=workload, error="ValueError: broken chunk"),
    ]
    return write_pass("ChunksOfOneShard", "embedded:s3", Plan(samples=2), rows, STARTED)


def test_a_pass_is_found_again_with_samples_reasons_and_versions(kept, config, sample):
    (record,) = records.load(config)
    good, other, broken = record.rows
    assert (record.pattern, record.target, record.machine) == ("ChunksOfOneShard", "embedded:s3", "box")
    assert record.environment == ["AWS_ACCESS_KEY_ID", "PATH"]
    assert record.variant == record.commit_name == COMMIT[:8]
    assert record.packages["msgspec"] == msgspec.__version__
    assert good.samples == [sample, sample]
    assert good.versions == {"zarr": "3.3.0"}
    assert (good.dataset, good.parameters, good.label) == ("small", {"gap": 0}, "chunks_of_one_shard small gap=0")
    assert (other.na, other.samples) == ("cannot stride", [])
    assert (broken.error, broken.samples) == ("ValueError: broken chunk", [])


def test_asv_does_not_take_a_record_for_a_result(kept, config):
    assert kept is not None
    assert kept.suffix != ".json"
    assert not list(config.parent.rglob("*.json"))[1:]


def test_outside_asv_nothing_is_kept(workload, monkeypatch):
    monkeypatch.delenv(records.FOLDER_VARIABLE, raising=False)
    assert write_pass("X", "t", Plan(), [], STARTED) is None


def test_the_same_pass_measured_again_replaces_its_record(kept, config, workload):
    write_pass("ChunksOfOneShard", "embedded:s3", Plan(), [Row(reader="new", workload=workload)], STARTED)
    (record,) = records.load(config)
    assert [row.reader for row in record.rows] == ["new"]


def test_what_lies_beside_a_result_is_found_by_its_build(kept, config):
    machine = config.parent / "results" / "box"
    other = kept.with_name(kept.name.replace("py3.13", "py3.13-numpy2"))
    other.write_text(kept.read_text().replace('"virtualenv-py3.13"', '"virtualenv-py3.13-numpy2"'))
    timeline = machine / "timelines" / f"{COMMIT[:12]}-x.timeline"
    timeline.parent.mkdir()
    timeline.write_text(kept.read_text())
    timeline.with_name(f"{COMMIT[:12]}-damaged.timeline").write_text("{")
    assert records.of_build(machine, COMMIT, "virtualenv-py3.13") == [kept, timeline]
    assert records.of_build(machine, COMMIT[:-1] + "0", "virtualenv-py3.13") == []


def taken(sample, session, round_number, **fields):
    return msgspec.structs.replace(sample, session=session, round_number=round_number, **fields)


def test_appended_samples_stay_beside_the_new_ones_as_those_of_other_processes(
    config, workload, sample, kept, monkeypatch
):
    def measure(rows):
        write_pass("ChunksOfOneShard", "embedded:s3", Plan(samples=4, sessions=2), rows, STARTED)

    four = [taken(sample, session, number) for number, session in enumerate([1, 1, 2, 2], 1)]
    monkeypatch.setenv(records.APPEND_VARIABLE, "0")
    first = Row(reader="good", workload=workload, versions={"zarr": "3.3.0"}, samples=four)
    changed = Row(reader="other", workload=workload, versions={"zarr": "3.3.0"}, samples=four[:2])
    measure([first, changed])
    monkeypatch.setenv(records.APPEND_VARIABLE, "1")
    measure([first, dataclasses.replace(changed, versions={"zarr": "3.3.1"}), Row(reader="x", workload=workload)])
    (record,) = records.load(config)
    good, other, new = record.rows
    assert [(one.session, one.round_number) for one in good.samples] == [
        *((1, 1), (1, 2), (2, 3), (2, 4)),
        *((3, 5), (3, 6), (4, 7), (4, 8)),
    ]
    assert other.samples == four[:2]  # with other libraries these are other figures
    assert new.samples == []
    assert (record.sessions, record.rounds) == (4, 8)


@pytest.mark.parametrize("damage", ["", '{"schema": 0}'])
def test_what_cannot_be_appended_to_is_replaced(kept, config, workload, monkeypatch, damage, logged):
    kept.write_text(damage)
    monkeypatch.setenv(records.APPEND_VARIABLE, "1")
    write_pass("ChunksOfOneShard", "embedded:s3", Plan(), [Row(reader="new", workload=workload)], STARTED)
    (record,) = records.load(config)
    assert [row.reader for row in record.rows] == ["new"]
    assert any("the samples before are not kept" in line for line in logged)


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 1}', None])
def test_a_damaged_record_is_named(kept, config, damage):
    if damage is None:
        kept.write_text(kept.read_text().replace('"schema": 1', '"schema": 2'))
    else:
        kept.write_text(damage)
    with pytest.raises(MeasurementError, match=kept.name):
        records.load(config)


def test_no_records_yet(config):
    with pytest.raises(BadUseError, match=r"asv run --config asv\.conf\.json"):
        records.load(config)
    with pytest.raises(BadUseError, match="no asv configuration"):
        records.load(config.with_name("missing.json"))


def test_a_long_name_of_the_environment_makes_no_file_that_cannot_be_written(config, kept, monkeypatch):
    written = set()
    for pin in ("aiohttp3.14.5", "aiohttp3.14.6"):
        monkeypatch.setenv("ASV_ENV_NAME", "-".join(["virtualenv-py3.13", *[pin] * 60]))
        written.add(write_pass("ChunksOfOneShard", "embedded:s3", Plan(), [], STARTED))
    assert len(written) == 2
    assert get_filename("box", COMMIT, os.environ["ASV_ENV_NAME"]).partition("-")[2].removesuffix(".json") in str(
        written
    )
    assert all(path.is_file() for path in written)
    assert {len(record.env_name) > 800 for record in records.load(config) if not record.rows} == {True}


@fuzzed
@given(data=st.data())
def test_any_bytes_are_a_record_or_refused(kept, tmp_path, data):
    path = tmp_path / "any.pass"
    path.write_bytes(data.draw(mutated(kept.read_bytes())))
    read_or_refused(lambda _: records.decode(path, records.PassRecord, records.SCHEMA), b"")


@pytest.mark.parametrize("text", [b"[" * 100_000, b"\xff", b"", b"{", b'{"schema": 1}', b"null"])
def test_a_record_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "any.pass"
    path.write_bytes(text)
    with pytest.raises(MeasurementError, match="cannot be read"):
        records.decode(path, records.PassRecord, records.SCHEMA)
