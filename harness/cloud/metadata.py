"""What a cloud says of this machine and of a bucket: the VM's region and type, the bucket's region, the time.

The metadata service of a cloud answers only on its VMs, so a short time-out is enough to know. Nothing here needs or
sees credentials.
"""

import datetime
import http.client
import os
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from urllib.parse import urlsplit

import msgspec

from harness.errors import StoreError
from harness.targets.target import Target

S3_ADDRESS = "https://s3.amazonaws.com"
"""Where every bucket of S3 can be asked for by its path."""

_LINK_LOCAL = "http://169.254.169.254"
_METADATA_SECONDS = 1.0
_STORE_SECONDS = 5.0
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Vm(msgspec.Struct, frozen=True, kw_only=True):
    """The virtual machine this process runs on."""

    cloud: str
    """``aws`` or ``gcp``"""
    region: str
    type: str
    """E.g. ``c6in.32xlarge``."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a store says of a bucket to anybody who asks."""

    status: int
    region: str | None
    """None where the store does not say, as Google's."""
    clock_offset_seconds: float | None
    """This machine's clock minus the store's, to a second or so; None where it sent no date."""


def this_vm() -> Vm | None:
    """Return the virtual machine that this is, or None: no cloud's metadata service answers within a second."""
    return _asked(_aws) or _asked(_gcp)


def _asked(ask: Callable[[], Vm]) -> Vm | None:
    try:
        return ask()
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _aws() -> Vm:
    """Ask for a token first (IMDSv2), as newer images demand."""
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise ValueError("switched off")
    service = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _LINK_LOCAL
    token = _text(service, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    headers = {"X-aws-ec2-metadata-token": token}
    region = _text(service, "GET", "/latest/meta-data/placement/region", headers)
    return Vm(cloud="aws", region=region, type=_text(service, "GET", "/latest/meta-data/instance-type", headers))


def _gcp() -> Vm:
    named = os.environ.get("GCE_METADATA_HOST")
    service = f"http://{named}" if named else _LINK_LOCAL
    headers = {"Metadata-Flavor": "Google"}
    zone = _text(service, "GET", "/computeMetadata/v1/instance/zone", headers).rpartition("/")[2]
    machine = _text(service, "GET", "/computeMetadata/v1/instance/machine-type", headers).rpartition("/")[2]
    return Vm(cloud="gcp", region=zone.rpartition("-")[0], type=machine)


def _text(service: str, method: str, path: str, headers: Mapping[str, str]) -> str:
    """Return a metadata service's answer; a ValueError where it is none."""
    response, body = _request(service, method, path, headers, _METADATA_SECONDS)
    if response.status != http.client.OK:
        raise ValueError(f"{path} answers {response.status}")
    return body.decode("ascii").strip()


def ask_bucket(target: Target) -> Answer:
    """Ask the store for the bucket of `target`, without credentials: S3 names the region even where it refuses.

    Raises
    ------
    StoreError
        The store cannot be reached.
    """
    store = target.endpoint or _own_endpoint(target)
    try:
        response, _ = _request(store, "HEAD", f"/{target.bucket}", _NO_HEADERS, _STORE_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        raise StoreError(f"cannot reach {store}: {error}") from error
    date = response.getheader("Date")
    now = datetime.datetime.now(datetime.UTC)
    return Answer(
        status=response.status,
        region=response.getheader("x-amz-bucket-region"),
        clock_offset_seconds=(now - parsedate_to_datetime(date)).total_seconds() if date else None,
    )


def _own_endpoint(target: Target) -> str:
    """Return the address of a cloud's own store, at which every bucket of S3 can be asked for by its path."""
    return S3_ADDRESS if urlsplit(target.url).scheme == "s3" else "https://storage.googleapis.com"


def _request(
    service: str, method: str, path: str, headers: Mapping[str, str], seconds: float
) -> tuple[http.client.HTTPResponse, bytes]:
    parts = urlsplit(service)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request(method, path, headers=dict(headers))
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()
