"""Servers that are not quite S3: what they do is said as what it is, and what no reader needs is not asked for."""

import gzip
import json

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.errors import StoreError, UnsupportedError
from harness.readers import reader_class
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.targets.target import Target
from harness.workload.create import create_workload
from setup_data import presets, write
from tests.support import odd_server
from tests.support.odd_server import Answer


@pytest.fixture(scope="module")
def bucket_url(embedded_store, s3):
    """Address under which plain HTTP finds a bucket with the smallest data set."""
    s3.create_bucket(Bucket="odd-servers")
    target = Target(name="own", url="s3://odd-servers", endpoint=embedded_store.endpoint, anonymous=True)
    for spec in presets.specs("tiny", ("small",)):
        write.write(open_store(target), spec)
    return embedded_store.endpoint


def make(address):
    return create_workload("chunks_of_one_shard", resolve(f"{address}/odd-servers"), dataset="tiny/small")


@pytest.mark.parametrize("status", [405, 403, 501])
def test_a_server_that_refuses_head_is_read(bucket_url, tmp_path, status):
    file = tmp_path / "w.json"
    with odd_server.serving(bucket_url, head=status) as address:
        where = ["--target", f"{address}/odd-servers", "--dataset", "tiny/small", "-o", str(file)]
        done = CliRunner().invoke(zcb, ["workload", "chunks_of_one_shard", *where], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        asked = ["read", "zarr-python+obstore", str(file), "--samples", "1", "--json"]
        done = CliRunner().invoke(zcb, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["samples"][0]["verified"]


def ranges_are_refused(answer, asked):
    return Answer(416, {}, b"") if asked else answer


def ranges_are_unnamed(answer, _):
    return answer._replace(headers={name: text for name, text in answer.headers.items() if name != "Content-Range"})


def ranges_are_ignored(answer, _):
    return ranges_are_unnamed(answer, _)._replace(status=200) if answer.status == 206 else answer


def is_compressed(answer, _):
    return answer._replace(body=gzip.compress(answer.body), headers=answer.headers | {"Content-Encoding": "gzip"})


def is_refused(_answer, _):
    return Answer(403, {}, b"")


def is_broken(_answer, _):
    return Answer(418, {}, b"")


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (ranges_are_refused, "refuses a byte range (416 Range Not Satisfiable)"),
        (ranges_are_unnamed, "does not say which byte range it answers (no Content-Range)"),
        (ranges_are_ignored, "answers a request for a byte range with the whole object"),
        (is_compressed, "comes with Content-Encoding: gzip, so that no byte range"),
        (is_refused, "refuses to be read"),
        (is_broken, "answers 418"),
    ],
)
def test_an_answer_that_cannot_be_used_is_said_as_what_it_is(bucket_url, bend, said):
    with odd_server.serving(bucket_url, bend=bend) as address, pytest.raises(StoreError) as refused:
        make(address)
    assert said in str(refused.value)
    assert "cannot reach" not in str(refused.value)
    assert "credentials" not in str(refused.value)


def test_an_address_of_ipv6_is_read_with_fsspec(bucket_url):
    try:
        serving = odd_server.serving(bucket_url, host="::1")
        address = serving.__enter__()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    try:
        assert "[::1]" in address
        work, reader = make(address), reader_class("zarr-python+fsspec")()
        reader.open(work)
        reader.check(work, reader.read())
        reader.close()
    finally:
        serving.__exit__(None, None, None)


def test_a_codec_that_tensorstore_does_not_know_is_no_failure_of_it(bucket_url):
    def with_another_codec(answer, _):
        return answer._replace(body=answer.body.replace(b'"zstd"', b'"pcodec"'))

    with odd_server.serving(bucket_url) as address:
        work = make(address)
    assert work.array.codec == "zstd"
    with odd_server.serving(bucket_url, bend=with_another_codec) as address:
        there = Target(name="x", url=f"{address}/odd-servers", anonymous=True)
        with pytest.raises(UnsupportedError, match=r'tensorstore cannot read this array: .*"pcodec" is not registered'):
            reader_class("tensorstore")().open(msgspec.structs.replace(work, target=there))
