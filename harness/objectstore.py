"""The object store behind a target, for the harness's own reading and writing (not for readers under test)."""

import contextlib
from collections.abc import Iterator
from typing import Any

import obstore
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from harness.errors import StoreError
from harness.targets import Target


def open_store(target: Target, *, prefix: str = "", retry: bool = True) -> S3Store:
    """Return the store of `target`, rooted at its prefix joined with `prefix`.

    Parameters
    ----------
    target
        Where to read or write.
    prefix
        Key prefix below the target's own, e.g. ``demo/small``.
    retry
        False fails at the first refused request instead of retrying for minutes.
    """
    options: dict[str, Any] = {"prefix": "/".join(filter(None, (target.prefix, prefix))) or None}
    if target.endpoint:
        options |= {"endpoint": target.endpoint, "client_options": {"allow_http": True, "timeout": "120s"}}
    if target.region:
        options["region"] = target.region
    if target.anonymous:
        options["skip_signature"] = True
    if not retry:
        options["retry_config"] = {"max_retries": 0}
    return S3Store(target.bucket, **options)


@contextlib.contextmanager
def reaching(target: Target) -> Iterator[None]:
    """Turn errors of the object store inside the block into one clear line with exit code 3."""
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreError(f"{target.url} refuses these credentials: {_reason(error)}") from error
    except NotFoundError as error:
        what = "no such bucket" if "NoSuchBucket" in str(error) else _reason(error)
        raise StoreError(f"{target.url}: {what}") from error
    except (BaseError, ConnectionError, TimeoutError) as error:
        where = target.endpoint or target.url
        raise StoreError(f"cannot reach {where}: {_reason(error)}") from error


def exists(store: S3Store, key: str) -> bool:
    """Whether an object stands at `key`."""
    try:
        obstore.head(store, key)
    except (NotFoundError, FileNotFoundError):
        return False
    return True


def _reason(error: BaseException) -> str:
    """Return the first line of an error, which holds the cause without the library's debug dump."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
