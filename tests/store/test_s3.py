"""The embedded store speaks S3 as boto3 does."""

import base64
import hashlib
import urllib.request
from typing import Any

import google_crc32c
import pytest
from botocore.exceptions import ClientError

from harness.store import lifecycle
from harness.store.lifecycle import StoreSettings
from tests.conftest import s3_client

BODY = bytes(range(100))


def refused(status: int, code: str | None = None):
    """Expect an answer with `status` and, where it has a body, an error code."""

    def matches(error: ClientError) -> bool:
        right = error.response["ResponseMetadata"]["HTTPStatusCode"] == status
        return right and code in (None, error.response["Error"]["Code"])

    return pytest.raises(ClientError, check=matches)


def keys_in(listing: dict[str, Any]) -> list[str]:
    return [entry["Key"] for entry in listing.get("Contents", [])]


@pytest.fixture
def key(s3: Any, bucket: str) -> str:
    s3.put_object(Bucket=bucket, Key="some/key", Body=BODY)
    return "some/key"


@pytest.mark.parametrize(
    ("wanted", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=90-", 90, 100),
        ("bytes=-10", 90, 100),
        ("bytes=-100", 0, 100),
        ("bytes=-1000", 0, 100),
        ("bytes=95-1000", 95, 100),
        ("bytes=0-99", 0, 100),
    ],
)
def test_ranges(s3, bucket, key, wanted, first, end):
    answer = s3.get_object(Bucket=bucket, Key=key, Range=wanted)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert answer["ContentRange"] == f"bytes {first}-{end - 1}/100"
    assert answer["ContentLength"] == end - first
    assert answer["Body"].read() == BODY[first:end]


@pytest.mark.parametrize("wanted", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_ranges_outside_the_object(s3, bucket, key, wanted):
    with refused(416, "InvalidRange"):
        s3.get_object(Bucket=bucket, Key=key, Range=wanted)


def test_whole_and_empty_objects(s3, bucket, key):
    whole = s3.get_object(Bucket=bucket, Key=key)
    assert (whole["ResponseMetadata"]["HTTPStatusCode"], whole["Body"].read()) == (200, BODY)
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    empty = s3.get_object(Bucket=bucket, Key="empty")
    assert (empty["ContentLength"], empty["Body"].read()) == (0, b"")


def test_etag_is_the_md5_of_a_single_upload(s3, bucket):
    answer = s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    assert answer["ETag"] == f'"{hashlib.md5(BODY, usedforsecurity=False).hexdigest()}"'
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == answer["ETag"]


def test_conditional_get(s3, bucket, key):
    head = s3.head_object(Bucket=bucket, Key=key)
    there = {"Bucket": bucket, "Key": key}
    assert s3.get_object(**there, IfMatch=head["ETag"])["Body"].read() == BODY
    assert s3.get_object(**there, IfNoneMatch='"other"')["Body"].read() == BODY
    with refused(412):
        s3.get_object(**there, IfMatch='"other"')
    with refused(304):
        s3.get_object(**there, IfNoneMatch=head["ETag"])
    with refused(304):
        s3.get_object(**there, IfModifiedSince=head["LastModified"])


def test_conditional_put(s3, bucket):
    there = {"Bucket": bucket, "Key": "k"}
    first = s3.put_object(**there, Body=b"1", IfNoneMatch="*")
    with refused(412, "PreconditionFailed"):
        s3.put_object(**there, Body=b"2", IfNoneMatch="*")
    s3.put_object(**there, Body=b"3", IfMatch=first["ETag"])
    with refused(412, "PreconditionFailed"):
        s3.put_object(**there, Body=b"4", IfMatch=first["ETag"])
    assert s3.get_object(**there)["Body"].read() == b"3"


def test_multipart_upload(s3, bucket):
    there = {"Bucket": bucket, "Key": "big"}
    upload = s3.create_multipart_upload(**there, Metadata={"made": "in parts"})["UploadId"]
    bodies = {1: b"a" * (5 << 20), 2: b"b" * (5 << 20), 3: b"c"}
    parts = []
    for number in (3, 1, 2):
        answer = s3.upload_part(**there, UploadId=upload, PartNumber=number, Body=bodies[number])
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    listed = s3.list_parts(**there, UploadId=upload)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in listed] == [(n, len(bodies[n])) for n in (1, 2, 3)]
    with refused(404):
        s3.head_object(**there)
    parts.sort(key=lambda part: part["PartNumber"])
    done = s3.complete_multipart_upload(**there, UploadId=upload, MultipartUpload={"Parts": parts})
    assert done["ETag"].strip('"').endswith("-3")
    whole = s3.get_object(**there)
    assert whole["Metadata"] == {"made": "in parts"}
    assert whole["Body"].read() == b"".join(bodies[number] for number in (1, 2, 3))


def test_multipart_refusals(s3, bucket):
    there = {"Bucket": bucket, "Key": "big"}
    upload = s3.create_multipart_upload(**there)["UploadId"]
    s3.upload_part(**there, UploadId=upload, PartNumber=1, Body=b"a")
    with refused(400, "InvalidPart"):
        s3.complete_multipart_upload(
            **there, UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 2, "ETag": '"0"'}]}
        )
    s3.abort_multipart_upload(**there, UploadId=upload)
    with refused(404, "NoSuchUpload"):
        s3.upload_part(**there, UploadId=upload, PartNumber=1, Body=b"a")
    assert keys_in(s3.list_objects_v2(Bucket=bucket)) == []


def test_listing_in_pages(s3, bucket):
    keys = sorted(f"{folder}/{n:02}" for folder in ("a", "a-b", "b") for n in range(7))
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 4}))
    assert [len(keys_in(page)) for page in pages] == [4, 4, 4, 4, 4, 1]
    assert [key for page in pages for key in keys_in(page)] == keys
    assert keys_in(s3.list_objects_v2(Bucket=bucket, Prefix="a/", StartAfter="a/04")) == ["a/05", "a/06"]
    assert keys_in(s3.list_objects(Bucket=bucket, Prefix="b", MaxKeys=2)) == ["b/00", "b/01"]


def test_listing_with_delimiter(s3, bucket):
    for key in ("a", "a/b/1", "a/b/2", "a/c", "d/e"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    top = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert keys_in(top) == ["a"]
    assert [prefix["Prefix"] for prefix in top["CommonPrefixes"]] == ["a/", "d/"]
    below = s3.list_objects_v2(Bucket=bucket, Delimiter="/", Prefix="a/")
    assert keys_in(below) == ["a/c"]
    assert [prefix["Prefix"] for prefix in below["CommonPrefixes"]] == ["a/b/"]
    pages = list(
        s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 1})
    )
    found = [keys_in(page) + [p["Prefix"] for p in page.get("CommonPrefixes", [])] for page in pages]
    assert [entry for page in found for entry in page] == ["a", "a/", "d/"]


def test_a_key_beside_the_same_key_with_a_slash(s3, bucket):
    for key in ("a/b", "a", "a/b/c"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert keys_in(s3.list_objects_v2(Bucket=bucket)) == ["a", "a/b", "a/b/c"]
    s3.delete_object(Bucket=bucket, Key="a")
    for key in ("a/b", "a/b/c"):
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    with refused(404):
        s3.head_object(Bucket=bucket, Key="a")


@pytest.mark.parametrize(
    "key", ["ü/ñ ☃", "plus+and space", "a%2Fb", "..", "a/../b", "x" * 1000, "a//b", "end/", "~ ?&#=:;"]
)
def test_odd_keys(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=BODY)
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == BODY
    assert keys_in(s3.list_objects_v2(Bucket=bucket)) == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert keys_in(s3.list_objects_v2(Bucket=bucket)) == []


def test_delete_many(s3, bucket):
    for n in range(10):
        s3.put_object(Bucket=bucket, Key=f"k{n}", Body=b"x")
    gone = [{"Key": f"k{n}"} for n in range(8)] + [{"Key": "never-there"}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": gone})
    assert sorted(entry["Key"] for entry in answer["Deleted"]) == sorted(entry["Key"] for entry in gone)
    assert keys_in(s3.list_objects_v2(Bucket=bucket)) == ["k8", "k9"]


def test_copy_and_metadata(s3, bucket):
    s3.put_object(Bucket=bucket, Key="from here", Body=BODY, Metadata={"origin": "test"}, ContentType="text/plain")
    s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from here"})
    copy = s3.get_object(Bucket=bucket, Key="to")
    assert (copy["Body"].read(), copy["Metadata"], copy["ContentType"]) == (
        BODY,
        {"origin": "test"},
        "text/plain",
    )
    s3.copy_object(
        Bucket=bucket,
        Key="to",
        CopySource={"Bucket": bucket, "Key": "from here"},
        Metadata={"origin": "copy"},
        MetadataDirective="REPLACE",
    )
    assert s3.head_object(Bucket=bucket, Key="to")["Metadata"] == {"origin": "copy"}


def test_a_rewritten_object_loses_its_old_metadata(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", Metadata={"old": "yes"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"2")
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {}


def test_error_codes(s3, bucket):
    with refused(404, "NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="none")
    with refused(404):
        s3.head_object(Bucket=bucket, Key="none")
    with refused(404, "NoSuchBucket"):
        s3.get_object(Bucket="no-such-bucket", Key="none")
    with refused(404, "NoSuchBucket"):
        s3.list_objects_v2(Bucket="no-such-bucket")
    with refused(404, "NoSuchBucket"):
        s3.put_object(Bucket="no-such-bucket", Key="k", Body=b"x")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused(409, "BucketNotEmpty"):
        s3.delete_bucket(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="k")
    assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204
    s3.delete_bucket(Bucket=bucket)
    with refused(404):
        s3.head_bucket(Bucket=bucket)


def test_a_damaged_upload_is_refused(s3, bucket):
    with refused(400):
        s3.put_object(Bucket=bucket, Key="k", Body=BODY, ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    with refused(400):
        s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumCRC32="AAAAAA==")
    assert keys_in(s3.list_objects_v2(Bucket=bucket)) == []


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_checksums_are_kept(s3, bucket, algorithm):
    put = s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == BODY
    assert got[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]


def test_crc32c(s3, bucket):
    """The one that boto3 cannot compute itself."""
    right = base64.b64encode(google_crc32c.Checksum(BODY).digest()).decode()
    s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumCRC32C=right)
    assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["ChecksumCRC32C"] == right
    with refused(400):
        s3.put_object(Bucket=bucket, Key="k", Body=BODY + b"x", ChecksumCRC32C=right)


def test_presigned_url(s3, bucket, key):
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key})
    with urllib.request.urlopen(url) as answer:  # noqa: S310
        assert answer.read() == BODY


@pytest.fixture
def guarded(own_state, monkeypatch) -> str:
    """The endpoint of a store that demands signatures."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "right-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "right-secret")
    return lifecycle.start(StoreSettings(profile="loopback", auth=True)).endpoint


def test_signatures(guarded):
    client = s3_client(guarded, "right-key", "right-secret", signature_version="s3v4")
    client.create_bucket(Bucket="bench")
    client.put_object(Bucket="bench", Key="ü k/1", Body=BODY)
    assert client.get_object(Bucket="bench", Key="ü k/1", Range="bytes=-3")["Body"].read() == BODY[-3:]
    assert keys_in(client.list_objects_v2(Bucket="bench", Prefix="ü k")) == ["ü k/1"]
    url = client.generate_presigned_url("get_object", {"Bucket": "bench", "Key": "ü k/1"})
    with urllib.request.urlopen(url) as answer:  # noqa: S310
        assert answer.read() == BODY
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url.replace("X-Amz-Expires=3600", "X-Amz-Expires=3601"))  # noqa: S310
    with refused(403, "InvalidAccessKeyId"):
        s3_client(guarded, "wrong-key", "right-secret").list_buckets()
    with refused(403, "SignatureDoesNotMatch"):
        s3_client(guarded, "right-key", "wrong-secret").list_buckets()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{guarded}/bench/%C3%BC%20k/1")  # noqa: S310


def test_without_auth_any_signature_will_do(embedded_store, bucket):
    client = s3_client(embedded_store.endpoint, "whoever", "whatever")
    client.put_object(Bucket=bucket, Key="k", Body=BODY)
    with urllib.request.urlopen(f"{embedded_store.endpoint}/{bucket}/k") as answer:  # noqa: S310
        assert answer.read() == BODY
