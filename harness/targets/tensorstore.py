"""How TensorStore is told where a target is."""

import os
from typing import Any, NamedTuple

from harness.errors import UnsupportedError
from harness.targets.target import DEFAULT_REGION, Target, address, joined

UNREAD = {"az": "driver for Azure Blob Storage"}
"""What TensorStore would need for these schemes, and does not have."""

# It has no other way to be told these, and reads them when a driver is first used.
_AUTHORITY_VARIABLE = "TENSORSTORE_CA_BUNDLE"
_GCS_ADDRESS_VARIABLE = "TENSORSTORE_GCS_HTTP_URL"


class TensorstoreLocation(NamedTuple):
    """What TensorStore needs to find an array."""

    kvstore: dict[str, Any]
    """Specification of the key-value store rooted at the array."""
    context: dict[str, Any]
    """Resources of the store: its requests in flight."""


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
    if target.scheme in UNREAD:
        raise UnsupportedError(f"tensorstore has no {UNREAD[target.scheme]}")
    if target.ca:
        os.environ[_AUTHORITY_VARIABLE] = target.ca
    if target.is_http:
        kvstore = {"driver": "http", "base_url": f"{address(target.url, key)}/"}
        return TensorstoreLocation(kvstore, _limit("http", in_flight))
    path = joined(target.prefix, key) + "/"
    if target.scheme == "gs":
        if target.endpoint:
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
        "aws_region": target.region or DEFAULT_REGION,
        "aws_credentials": {"type": "anonymous" if target.anonymous else "default"},
    }
    if target.endpoint:
        kvstore["endpoint"] = target.endpoint
    return kvstore


def _limit(driver: str, in_flight: int) -> dict[str, Any]:
    return {f"{driver}_request_concurrency": {"limit": in_flight}}
