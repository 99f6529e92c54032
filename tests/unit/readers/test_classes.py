"""What the classes of readers say, and what is derived from it: choices of commands, and tables in docs/."""

import re
from importlib.util import find_spec

import pytest

from harness.asv import tracked
from harness.errors import BadUseError
from harness.paths import ROOT
from harness.readers import (
    MAIN,
    all_readers,
    benchmarked,
    clients,
    derived,
    limit_clients,
    reader_class,
    representatives,
    tuned,
)
from harness.readers.base import Reader
from harness.results import drift
from harness.results.cells import DEFAULT_BASELINE
from harness.results.sample import NETWORK_LIMIT, THROWN_AWAY
from harness.targets.target import Target
from harness.verdict import crates
from harness.verdict import run as runs
from harness.verdict.run import Request, plan, usual_readers

SCHEMES = ("s3", "gs", "az", "https")
PLACE = Target(name="t", url="s3://nowhere")
ROWS = [*benchmarked(), NETWORK_LIMIT]
"""A reader may be new to docs/; what is told of one has to be true."""


def told(page, *heading):
    """Return the rows of a table in docs/: the readers that a row names -> its other columns."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(f"| {' | '.join(heading)} |"))
    found = {}
    for line in lines[begin + 2 : lines.index("", begin)]:
        first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for name in re.findall(r"`([^`]+)`", first):
            found[f"zarr-python+obstore{name}" if name.startswith("+") else name] = cells
    return found


def test_every_reader_has_a_row_or_competes_for_one():
    assert all(reader.name == name for name, reader in all_readers().items())
    assert limit_clients() == clients(NETWORK_LIMIT) == [NETWORK_LIMIT, f"{NETWORK_LIMIT}+rust"]
    assert clients(THROWN_AWAY) == [THROWN_AWAY]
    assert sorted([*benchmarked(), *limit_clients(), THROWN_AWAY]) == sorted(all_readers())
    assert clients("zarrs") == ["zarrs"]
    with pytest.raises(BadUseError, match=r"choose from zarr-python\+fsspec, "):
        reader_class("nope")


def test_a_class_says_of_itself_what_its_methods_do():
    for reader in (reader for reader in all_readers().values() if reader.is_python):
        assert reader.counts_requests == (reader.request_counts is not Reader.request_counts), reader.name
        assert reader.records_timelines == (reader.timeline is not Reader.timeline), reader.name
        assert reader.strides == (reader.calls is Reader.calls), reader.name
        assert {*reader.unread, *reader.only_own_address} < set(SCHEMES), reader.name


def test_what_depends_on_the_commit_under_test_is_no_control():
    readers = all_readers()
    assert set(drift.CONTROLS) == {name for name in ROWS if readers[name].is_control}
    assert not any(readers[name].uses_zarr_python() for name in drift.CONTROLS)
    assert all(readers[name].uses_zarr_python() for name in tracked.PLAIN_READERS)
    assert DEFAULT_BASELINE in readers


def test_who_stands_for_a_decoder():
    assert list(representatives().items()) == [
        ("zarr-python", ["zarr-python+obstore", "zarr-python+fsspec"]),
        ("tensorstore", ["tensorstore"]),
        ("zarrs", ["zarrista"]),
    ]


def test_who_is_compared_unless_readers_are_named():
    target = Target(name="t", url="s3://nowhere")
    assert usual_readers(Request(base="=", head="=", target=target)) == ["zarr-python+obstore", "zarr-python+fsspec"]
    assert usual_readers(Request(base="=", head="=", target=target, quick=True)) == ["zarr-python+obstore"]
    assert usual_readers(Request(base="=", head="crate:1.0", target=target)) == ["zarrs", "zarrs-planned"]
    assert usual_readers(Request(base="=", head="tensorstore==0.1.70", target=target)) == ["tensorstore"]
    two_of_obstore = Request(base="obstore==0.11.0", head="obstore==0.12.1", target=target)
    assert usual_readers(two_of_obstore) == [name for name in benchmarked() if "obstore" in reader_class(name).packages]
    assert "zarr-python+fsspec" not in usual_readers(two_of_obstore)
    below = Request(base="=", head="google_crc32c==1.0", target=target)  # zarr requires it, and no reader names it
    assert usual_readers(below) == ["zarr-python+obstore", "zarr-python+fsspec"]
    of_one = Request(base="=", head="yarl==1.0", target=target)  # aiohttp requires it
    assert usual_readers(of_one) == ["zarr-python+fsspec"]
    assert usual_readers(Request(base="=", head="pandas==1.0", target=target)) == ["xarray", "dask"]


def test_a_package_that_no_reader_requires_is_refused_and_one_that_is_only_required_is_said(monkeypatch, logged):
    with pytest.raises(BadUseError, match=r"^no reader uses boto3, so .*: readers use .*zarrs and what these require$"):
        plan(Request(base="boto3-1.0-py3-none-any.whl", head="=", target=PLACE))
    with pytest.raises(BadUseError, match=r"^zarr-python\+obstore does not use attrs, .*: choose from zarr-python\+fs"):
        plan(Request(base="attrs==26.1.0", head="=", target=PLACE, readers=["zarr-python+obstore"]))
    monkeypatch.setattr(runs, "create_workload", lambda *_, **__: None)
    for package in ("attrs", "aiohttp"):
        assert plan(Request(base=f"{package}==1.0", head="=", target=PLACE))[0] == ["zarr-python+fsspec"]
    said = [line for line in logged if "is not known" in line]
    assert said == ["attrs is required by packages of zarr-python+fsspec: whether it is loaded is not known"]


@pytest.mark.parametrize(
    ("reader", "asked", "used"),
    [
        ("zarr-python+fsspec", {"base": "obstore==0.11.0", "head": "obstore==0.12.1"}, "obstore"),
        ("zarr-python+obstore", {"base": "=", "head": "tensorstore==0.1.70"}, "tensorstore"),
    ],
)
def test_a_reader_without_a_package_is_not_compared_between_its_versions(reader, asked, used):
    with pytest.raises(BadUseError, match=rf"^{re.escape(reader)} does not use {used}, so there is nothing to compare"):
        plan(Request(target=PLACE, readers=[reader], **asked))


@pytest.mark.parametrize(
    "asked",
    [
        {"base": "3.2.1", "head": "3.3.0"},
        {"base": "=", "head": "main"},
        {"base": "=", "head": "=", "head_config": {"async.concurrency": "1"}},
    ],
)
def test_a_reader_without_zarr_is_not_compared_between_versions_of_zarr(asked):
    request = Request(target=PLACE, readers=["zarr-python+obstore", "tensorstore"], **asked)
    with pytest.raises(BadUseError, match=r"^tensorstore does not use zarr-python, so there is nothing to compare"):
        plan(request)


@pytest.mark.parametrize("sides", [("=", "="), ("=", "tensorstore==0.1.70")])
def test_a_reader_without_zarr_is_compared_with_itself_and_between_its_own_versions(sides, monkeypatch):
    base, head = sides
    monkeypatch.setattr(runs, "create_workload", lambda *_, **__: None)
    readers, _ = plan(Request(base=base, head=head, target=PLACE, readers=["tensorstore"]))
    assert readers == ["tensorstore"]
    assert crates.readers() == ["zarrs", "zarrs-planned"]


def test_a_reader_with_its_crates_main_branch_is_the_same_but_for_its_name():
    for name in ("zarrs+main", "zarrs-planned+main"):
        made, plain = reader_class(name), reader_class(name.removesuffix(MAIN))
        assert (made.name, made.main_of, plain.main_of) == (name, plain.name, None)
        assert name in derived()
        assert made.represents is None
        assert name not in all_readers()
        with pytest.raises(BadUseError, match="no settings to tune"):
            tuned(made)
    with pytest.raises(BadUseError, match=r"tensorstore is built from no crate: choose from zarrs\+main, "):
        reader_class("tensorstore+main")


def test_the_page_of_readers_lists_them_and_their_calls():
    rows = told("readers.md", "reader", "what it is")
    assert list(rows) == [name for name in ROWS if name in rows]
    for name in rows.keys() - {NETWORK_LIMIT}:
        assert rows[name][2] == ("1" if reader_class(name).strides else "one per chunk"), name


def test_the_page_of_readers_names_those_that_cannot_count():
    (names,) = re.findall(r"Who cannot count its own requests \((.*)\)", (ROOT / "docs" / "readers.md").read_text())
    listed = [name for name in told("readers.md", "reader", "what it is") if not reader_class(name).counts_requests]
    assert re.findall(r"`([^`]+)`", names) == listed


def test_the_page_of_targets_says_who_reads_which_cloud():
    rows = told("targets.md", "reader", "s3")
    assert sorted(rows) == sorted(told("readers.md", "reader", "what it is"))
    for name, cells in rows.items():
        reader = reader_class(name)
        for scheme, cell in zip(SCHEMES, cells, strict=True):
            if scheme in reader.unread:
                assert cell.startswith("n/a"), (name, scheme)
                assert reader.unread[scheme].split()[0].strip(",") in cell, (name, scheme)
            elif "gcsfs" in cell:  # which may be installed
                assert find_spec("gcsfs"), (name, scheme)
            elif scheme in reader.only_own_address:
                assert cell.endswith("own address only"), (name, scheme)
            else:
                assert cell.startswith("yes") or (name, cell) == ("icechunk", "not tried"), (name, scheme)
        assert reader.requester_pays == ("not requester-pays" not in cells[0]), name
