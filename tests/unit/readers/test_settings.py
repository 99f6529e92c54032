"""Settings that a search may try: what is declared, what becomes of them, and the readers that have them."""

import pytest

from harness.errors import BadUseError
from harness.machine.cpu import cores
from harness.readers import all_readers, benchmarked, reader_class, tuned_readers, why_few_in_flight
from harness.readers.settings import CORES, ENVIRONMENT, IN_FLIGHT, TUNED, Given, Setting, given, in_words
from harness.results.sample import FLAG_IN_FLIGHT
from tests.support import passes

SPACE = (
    Setting(name="THREADS", of=ENVIRONMENT, default="4", values=(1, IN_FLIGHT), meaning="Threads."),
    Setting(name="gap", of="config", default="1 MiB", values=(-1, CORES), meaning="Gap."),
)


def test_names_become_the_numbers_that_they_stand_for():
    assert given(SPACE, {"THREADS": IN_FLIGHT, "gap": CORES}, in_flight=7) == Given({"THREADS": "7"}, {"gap": cores()})
    assert given(SPACE, {"gap": -1}, in_flight=7).all == {"gap": -1}
    assert given(SPACE, {}, in_flight=7) == Given({}, {})


def test_a_setting_that_the_reader_does_not_have_is_refused():
    with pytest.raises(BadUseError, match="there is no setting 'gaps': choose from THREADS, gap"):
        given(SPACE, {"gaps": 1}, in_flight=7)
    with pytest.raises(BadUseError, match="there is no setting 'gap': choose from none"):
        reader_class("zarrs-planned")().choose({"gap": 1})


def test_settings_are_taken_where_they_are_given():
    reader = reader_class("zarr-python+fsspec")()
    reader.choose({"max_concurrency": 1, "array.sharding_coalesce_max_gap_bytes": -1})
    assert reader.chosen_of("zarr.config") == {"array.sharding_coalesce_max_gap_bytes": -1}
    assert reader.chosen_of("s3fs.S3FileSystem") == {"max_concurrency": 1}
    assert reader_class("zarr-python+fsspec")().chosen == {}


def test_every_setting_is_declared_once_and_tries_something():
    for reader in all_readers().values():
        names = [one.name for one in reader.settings]
        assert len(names) == len(set(names)), reader.name
        for one in reader.settings:
            assert len(set(one.values)) == len(one.values) > 0
            assert one.meaning.endswith(".")
            assert one.default
            assert one.default not in map(str, one.values), (reader.name, one.name)


def test_a_tuned_reader_is_the_same_but_for_its_name():
    assert tuned_readers() == [
        f"{name}{TUNED}" for name in benchmarked() if name not in ("zarr-python+obstore+fused", "zarrs-planned")
    ]
    for name in tuned_readers():
        tuned, plain = reader_class(name), reader_class(name.removesuffix(TUNED))
        assert (tuned.name, tuned.tuned_of, plain.tuned_of) == (name, plain.name, None)
        assert issubclass(tuned, plain)
        assert tuned is reader_class(name)
        assert tuned.represents is None
        assert name not in all_readers()


def test_a_reader_without_settings_cannot_be_tuned():
    with pytest.raises(BadUseError, match=r"zarrs-planned has no settings to tune: choose from zarr-python\+fsspec"):
        reader_class("zarrs-planned+tuned")
    with pytest.raises(BadUseError, match=r"did you mean 'zarrs\+tuned'\?"):
        reader_class("zarr+tuned")


def test_a_row_that_is_marked_for_few_requests_names_the_cause():
    few, many = passes.sample(1, 1, 8, max_in_flight=10), passes.sample(1, 1, 8, max_in_flight=130)
    few.flags.append(FLAG_IN_FLIGHT)
    many.flags.append(FLAG_IN_FLIGHT)
    cause = reader_class("zarrs").holds_back
    assert cause
    assert why_few_in_flight("zarrs+tuned", [many, few], 100) == why_few_in_flight("zarrs", [few], 100) == cause
    assert why_few_in_flight("zarrs", [many], 100) is None  # more than it may
    assert why_few_in_flight("zarrs", [passes.sample(1, 1, 8, max_in_flight=10)], 100) is None
    assert why_few_in_flight("of another time", [few], 100) is None


def test_settings_in_words():
    assert in_words({"gap": -1, "batch": True}) == "gap=-1, batch=True"
    assert in_words({}) == "as documented"
