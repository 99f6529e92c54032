"""The client libraries of the readers, obstore and s3fs, work on the embedded store."""

import obstore
import pytest
import s3fs
from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError
from obstore.store import S3Store

BODY = bytes(range(256)) * 4


@pytest.fixture
def store(embedded_store, bucket) -> S3Store:
    return S3Store(
        bucket,
        endpoint=embedded_store.endpoint,
        region="us-east-1",
        skip_signature=True,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


@pytest.fixture
def files(embedded_store) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(anon=True, endpoint_url=embedded_store.endpoint, skip_instance_cache=True)


def test_obstore_get(store):
    obstore.put(store, "a/b", BODY)
    answer = obstore.get(store, "a/b")
    assert (answer.meta["size"], bytes(answer.bytes())) == (1024, BODY)
    assert bytes(obstore.get_range(store, "a/b", start=10, length=20)) == BODY[10:30]
    parts = obstore.get_ranges(store, "a/b", starts=[0, 100, 1000], ends=[10, 101, 1024])
    assert [bytes(part) for part in parts] == [BODY[0:10], BODY[100:101], BODY[1000:1024]]
    suffix = obstore.get(store, "a/b", options={"range": {"suffix": 24}})
    assert (suffix.range, bytes(suffix.bytes())) == ((1000, 1024), BODY[-24:])
    offset = obstore.get(store, "a/b", options={"range": {"offset": 1000}})
    assert bytes(offset.bytes()) == BODY[1000:]
    with pytest.raises((NotFoundError, FileNotFoundError)):
        obstore.get(store, "a")


def test_obstore_streams_what_is_larger_than_a_part(store):
    body = BODY * (12 << 10)
    obstore.put(store, "big", body, chunk_size=5 << 20)
    assert b"".join(map(bytes, obstore.get(store, "big").stream())) == body


def test_obstore_list(store):
    keys = [f"x/{n}/c" for n in range(3)] + ["x/zarr.json", "y"]
    for key in keys:
        obstore.put(store, key, b"1")
    listed = [entry["path"] for batch in obstore.list(store, chunk_size=2) for entry in batch]
    assert listed == keys
    below = obstore.list_with_delimiter(store, "x")
    assert list(below["common_prefixes"]) == ["x/0", "x/1", "x/2"]
    assert [entry["path"] for entry in below["objects"]] == ["x/zarr.json"]


def test_obstore_copy_rename_delete(store):
    obstore.put(store, "a", BODY)
    obstore.copy(store, "a", "b")
    obstore.rename(store, "a", "c")
    obstore.delete(store, "b")
    assert [entry["path"] for entry in obstore.list(store).collect()] == ["c"]
    assert bytes(obstore.get(store, "c").bytes()) == BODY


def test_obstore_conditional_put(store):
    first = obstore.put(store, "k", b"1", mode="create")
    with pytest.raises((AlreadyExistsError, FileExistsError)):
        obstore.put(store, "k", b"2", mode="create")
    second = obstore.put(store, "k", b"3", mode={"e_tag": first["e_tag"]})
    with pytest.raises(PreconditionError):
        obstore.put(store, "k", b"4", mode={"e_tag": first["e_tag"]})
    assert obstore.head(store, "k")["e_tag"] == second["e_tag"]
    with pytest.raises(PreconditionError):
        obstore.get(store, "k", options={"if_match": first["e_tag"]})


def test_s3fs(files, bucket):
    files.pipe({f"{bucket}/a/{n}": BODY for n in range(3)})
    assert files.ls(f"{bucket}/a", detail=False) == [f"{bucket}/a/{n}" for n in range(3)]
    assert files.cat_file(f"{bucket}/a/0") == BODY
    ranges = files.cat_ranges([f"{bucket}/a/0", f"{bucket}/a/1", f"{bucket}/a/2"], [0, 10, -24], [10, 20, None])
    assert ranges == [BODY[0:10], BODY[10:20], BODY[-24:]]
    files.mv(f"{bucket}/a/0", f"{bucket}/b/0")
    files.rm(f"{bucket}/a", recursive=True)
    files.invalidate_cache()
    assert files.find(bucket) == [f"{bucket}/b/0"]
    assert files.info(f"{bucket}/b/0")["size"] == len(BODY)
    assert not files.exists(f"{bucket}/a/1")


def test_s3fs_writes_in_parts(files, bucket):
    body = BODY * (12 << 10)
    with files.open(f"{bucket}/big", "wb", block_size=5 << 20) as file:
        file.write(body)
    assert files.cat_file(f"{bucket}/big") == body
