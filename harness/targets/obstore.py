"""How obstore, and all that is built on it, is told where a target is."""

from typing import Any

from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from harness.errors import BadUseError
from harness.targets.target import Target, address, joined

Store = S3Store | GCSStore | AzureStore | HTTPStore
"""The stores of obstore that a target can be."""

_TIMEOUT = "120s"


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


def _obstore_s3(target: Target) -> dict[str, Any]:
    options = _given(endpoint=target.endpoint, region=target.region)
    return options | {"request_payer": True} if target.requester_pays else options


def _given(**options: str | None) -> dict[str, Any]:
    """Return the options that have a value: the libraries look for the others in the environment."""
    return {name: value for name, value in options.items() if value}
