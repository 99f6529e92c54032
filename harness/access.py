"""How each library is told where a target is: the one place that turns a `Target` into their options.

``rust/zarrs-reader/src/client.rs`` does the same for object_store in Rust. docs/targets.md says which library can
read which cloud, and what was tried.
"""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from harness.errors import BadUseError, UnsupportedError
from harness.targets import Target

if TYPE_CHECKING:
    import aiohttp

Store = S3Store | GCSStore | AzureStore | HTTPStore
"""The stores of obstore that a target can be."""

_TIMEOUT = "120s"
_GCS_ADDRESS_VARIABLE = "TENSORSTORE_GCS_HTTP_URL"
_REGION_OF_COMPATIBLE_STORES = "us-east-1"
_FSSPEC_NEEDS = {"gs": "gcsfs", "az": "adlfs"}
"""What fsspec reads these schemes with; their dependencies are too many to bring along for one reader of one cloud."""


class FsspecLocation(NamedTuple):
    """What fsspec needs to find an array."""

    url: str
    options: dict[str, Any]
    """Of the file system."""


class TensorstoreLocation(NamedTuple):
    """What TensorStore needs to find an array."""

    kvstore: dict[str, Any]
    """Specification of the key-value store rooted at the array."""
    context: dict[str, Any]
    """Resources of the store: its requests in flight."""


def joined(*parts: str) -> str:
    """Return the non-empty parts of a key, joined by slashes."""
    return "/".join(filter(None, parts))


def obstore_store(target: Target, *, prefix: str, retry: bool) -> Store:
    """Return obstore's store of `target`, rooted at its prefix joined with `prefix`.

    Credentials are those of object_store's chain for the cloud.

    Parameters
    ----------
    retry
        False fails at the first refused request instead of retrying for minutes.

    Raises
    ------
    BadUseError
        A URL of another scheme than targets have.
    """
    options: dict[str, Any] = {} if retry else {"retry_config": {"max_retries": 0}}
    # Plain HTTP where an address says so, which may also stand in the environment (AWS_ENDPOINT_URL).
    options["client_options"] = {"timeout": _TIMEOUT, "allow_http": True}
    if target.is_http:
        return HTTPStore(joined(target.url.rstrip("/"), prefix), **options)
    options["prefix"] = joined(target.prefix, prefix) or None
    if target.anonymous:
        options["skip_signature"] = True
    match target.scheme:
        case "s3":
            return S3Store(target.bucket, **options, **_obstore_s3(target))
        case "gs":
            return GCSStore(target.bucket, **options, **_given(base_url=target.endpoint))
        case "az":
            return AzureStore(target.bucket, **options, **_given(account_name=target.account, endpoint=target.endpoint))
        case other:
            raise BadUseError(f"target {target.name!r}: there is no store for {other}:// URLs")


def _obstore_s3(target: Target) -> dict[str, Any]:
    options = _given(endpoint=target.endpoint, region=target.region)
    return options | {"request_payer": True} if target.requester_pays else options


def _given(**options: str | None) -> dict[str, Any]:
    """Return the options that have a value: the libraries look for the others in the environment."""
    return {name: value for name, value in options.items() if value}


def fsspec_location(target: Target, key: str, *, in_flight: int, trace: "aiohttp.TraceConfig") -> FsspecLocation:
    """Return where fsspec finds the array `key`, through HTTP sessions that `trace` is told of.

    Parameters
    ----------
    in_flight
        Connections that the file system may open.

    Raises
    ------
    UnsupportedError
        The scheme needs a file system that is no part of this project.
    """
    if target.scheme in _FSSPEC_NEEDS:
        needed = _FSSPEC_NEEDS[target.scheme]
        raise UnsupportedError(f"fsspec reads {target.scheme}:// with {needed}, which is no part of this project")
    if target.is_http:
        options = {"get_client": _traced_client(in_flight, trace), "skip_instance_cache": True}
        return FsspecLocation(joined(target.url.rstrip("/"), key), options)
    from harness.tracing import traced_session

    return FsspecLocation(
        f"s3://{joined(target.bucket, target.prefix, key)}",
        {
            "anon": target.anonymous,
            "requester_pays": target.requester_pays,
            "endpoint_url": target.endpoint,
            "client_kwargs": {"region_name": target.region} if target.region else {},
            "config_kwargs": {"max_pool_connections": in_flight, "http_session_cls": traced_session(trace)},
            "skip_instance_cache": True,
        },
    )


def _traced_client(in_flight: int, trace: "aiohttp.TraceConfig") -> Any:
    import aiohttp

    trace.freeze()

    async def client(**options: Any) -> aiohttp.ClientSession:
        # A connector belongs to the event loop it is made on, so it is made here.
        connector = aiohttp.TCPConnector(limit=in_flight)
        return aiohttp.ClientSession(connector=connector, trace_configs=[trace], **options)

    return client


def tensorstore_location(target: Target, key: str, *, in_flight: int) -> TensorstoreLocation:
    """Return where TensorStore finds the array `key`.

    Parameters
    ----------
    in_flight
        Requests that the store may have under way.

    Raises
    ------
    UnsupportedError
        TensorStore has no driver for the scheme, or one that cannot do what the target needs.
    """
    if target.scheme == "az":
        raise UnsupportedError("tensorstore has no driver for Azure Blob Storage")
    if target.is_http:
        # The URL stands as it is, percent signs included; the key below it is encoded by the driver.
        kvstore = {"driver": "http", "base_url": target.url.rstrip("/"), "path": f"{key}/"}
        return TensorstoreLocation(kvstore, _limit("http", in_flight))
    path = joined(target.prefix, key) + "/"
    if target.scheme == "gs":
        if target.endpoint:
            # The driver has no other way to be told, and reads it when it is first used.
            os.environ[_GCS_ADDRESS_VARIABLE] = target.endpoint
        kvstore = {"driver": "gcs", "bucket": target.bucket, "path": path}
        return TensorstoreLocation(kvstore, _limit("gcs", in_flight))
    return TensorstoreLocation(_tensorstore_s3(target, path), _limit("s3", in_flight))


def _tensorstore_s3(target: Target, path: str) -> dict[str, Any]:
    if target.requester_pays:
        raise UnsupportedError("tensorstore misspells the header of requester-pays, so that S3 refuses it")
    kvstore: dict[str, Any] = {
        "driver": "s3",
        "bucket": target.bucket,
        "path": path,
        "aws_credentials": {"type": "anonymous" if target.anonymous else "default"},
    }
    if target.endpoint:
        kvstore["endpoint"] = target.endpoint
    region = target.region or (_REGION_OF_COMPATIBLE_STORES if target.endpoint else None)
    # Without a region the driver asks the bucket for its own.
    return kvstore if region is None else kvstore | {"aws_region": region}


def _limit(driver: str, in_flight: int) -> dict[str, Any]:
    return {f"{driver}_request_concurrency": {"limit": in_flight}}
