"""zarr's own conformance tests of its stores, over the embedded store, through obstore and through s3fs.

Objects are put and looked at with boto3, past the client library under test.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import s3fs
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError
from obstore.store import S3Store
from zarr.core.buffer import Buffer, cpu
from zarr.storage import FsspecStore, ObjectStore
from zarr.testing.store import StoreTests


class OverS3(StoreTests[Any, cpu.Buffer]):
    """What both stores have in common."""

    buffer_cls = cpu.Buffer

    @pytest.fixture(autouse=True)
    def _connect(self, s3: Any, bucket: str) -> None:
        self.s3, self.bucket = s3, bucket

    @pytest.fixture
    def store(self, store_kwargs: dict[str, Any]) -> Any:
        return self.store_cls(**store_kwargs)

    async def set(self, store: Any, key: str, value: Buffer) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=value.to_bytes())

    async def get(self, store: Any, key: str) -> Buffer:
        return self.buffer_cls.from_bytes(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def test_store_supports_writes(self, store: Any) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: Any) -> None:
        assert store.supports_listing

    def test_boto3_sees_the_bucket(self) -> None:
        with pytest.raises(ClientError):
            self.s3.get_object(Bucket=self.bucket, Key="nothing")


class TestObjectStore(OverS3):
    """Through obstore."""

    store_cls = ObjectStore

    @pytest.fixture
    def store_kwargs(self, embedded_store, bucket) -> dict[str, Any]:
        store = S3Store(
            bucket,
            endpoint=embedded_store.endpoint,
            region="us-east-1",
            skip_signature=True,
            client_options={"allow_http": True},
        )
        return {"store": store, "read_only": False}

    def test_store_repr(self, store: Any) -> None:
        assert self.bucket in repr(store)


class TestFsspecStore(OverS3):
    """Through s3fs."""

    store_cls = FsspecStore
    session = AioSession()
    """What s3fs makes its clients of; it reads the description of S3 once for all of them, but cannot be pickled."""

    @pytest.fixture
    async def store_kwargs(self, request, embedded_store, bucket) -> AsyncIterator[dict[str, Any]]:
        # A client belongs to one event loop, and each test has its own: forget the one of the test before.
        s3fs.S3FileSystem.clear_instance_cache()
        session = None if request.node.originalname == "test_serializable_store" else self.session
        files = s3fs.S3FileSystem(anon=True, endpoint_url=embedded_store.endpoint, asynchronous=True, session=session)
        yield {"fs": files, "path": bucket}
        client = await files.set_session()
        await client.close()

    def test_store_repr(self, store: Any) -> None:
        assert repr(store) == f"<FsspecStore(S3FileSystem, {self.bucket})>"
