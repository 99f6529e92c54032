"""How obstore, and all that is built on it, is told where a target is."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from harness.errors import BadUseError
from harness.targets.target import DEFAULT_REGION, Target, address, joined
from harness.targets.timeouts import allowed_silence

Store = S3Store | GCSStore | AzureStore | HTTPStore
"""The stores of obstore that a target can be."""

_TIMEOUT_SECONDS = 120.0
"""What a request may take as a whole, unless more silence than that is allowed."""


def obstore_store(
    target: Target, *, prefix: str, retry: bool, client: Mapping[str, object] = MappingProxyType({})
) -> Store:
    """Return obstore's store of `target`, rooted at its prefix joined with `prefix`.

    Credentials are those of object_store's chain for the cloud.

    Parameters
    ----------
    retry
        False fails at the first refused request instead of retrying for minutes.
    client
        Options of its HTTP client beside ours.

    Raises
    ------
    BadUseError
        A URL of another scheme than targets have.
    """
    options: dict[str, Any] = {
        "client_options": _client_options(target) | {name: str(value) for name, value in client.items()},
        "retry_config": _retries(retry),
    }
    if target.is_http:
        return HTTPStore(address(target.url, prefix), **options)
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


def _client_options(target: Target) -> dict[str, Any]:
    silence = allowed_silence()
    # Plain HTTP where an address says so, which may also stand in the environment (AWS_ENDPOINT_URL).
    options: dict[str, Any] = {"allow_http": True, "timeout": timedelta(seconds=max(_TIMEOUT_SECONDS, silence or 0.0))}
    if target.ca:
        options["root_certificate"] = Path(target.ca).read_text()
    if silence is not None:
        options |= {"connect_timeout": timedelta(seconds=silence), "read_timeout": timedelta(seconds=silence)}
    return options


def _retries(allowed: bool) -> dict[str, Any]:
    """Return how often a request is sent again: a silent store is not asked anew for longer than it may be silent."""
    if not allowed:
        return {"max_retries": 0}
    silence = allowed_silence()
    return {} if silence is None else {"retry_timeout": timedelta(seconds=silence)}


def _obstore_s3(target: Target) -> dict[str, Any]:
    options = _given(endpoint=target.endpoint) | {"region": target.region or DEFAULT_REGION}
    return options | {"request_payer": True} if target.requester_pays else options


def _given(**options: str | None) -> dict[str, Any]:
    """Return the options that have a value: the others are the cloud's own."""
    return {name: value for name, value in options.items() if value}
