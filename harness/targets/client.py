"""The object store behind a target, for the harness's own reading and writing (not for readers under test)."""

import contextlib
import re
from collections.abc import Iterator

import obstore
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from harness.errors import StoreError
from harness.machine.environment import direct
from harness.targets.obstore import Store, obstore_store
from harness.targets.target import Target

_CODE = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")
_REFUSED = re.compile(r"status code: 40[13]\b")
_KEY = re.compile(r"Object at location (\S+) not found")
_DUMP = "\n\nDebug source"
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")


def open_store(target: Target, *, prefix: str = "", retry: bool = True) -> Store:
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
    with direct():  # as the readers' processes reach it
        return obstore_store(target, prefix=prefix, retry=retry)


@contextlib.contextmanager
def reaching(target: Target) -> Iterator[None]:
    """Turn errors of the object store inside the block into one clear line with exit code 3."""
    try:
        yield
    except (BaseError, FileNotFoundError, ConnectionError, TimeoutError, PermissionError) as error:
        raise StoreError(_complaint(target, error)) from error


def lacks_bucket(error: BaseException) -> bool:
    """Whether the store answered that there is no such bucket: obstore has no one exception for that."""
    return any(code in str(error) for code in _NO_BUCKET)


def require(target: Target, key: str) -> None:
    """Check that `key` can be read at `target`; a StoreError says why not."""
    with reaching(target):
        obstore.head(open_store(target, retry=False), key)


def _complaint(target: Target, error: BaseException) -> str:
    """Return one line for an error of the object store; the server's own code says it best where there is one."""
    text = str(error)
    code = _CODE.search(text)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _REFUSED.search(text):
        return f"{target.url} refuses these credentials{f' ({code[1]})' if code else ''}"
    if lacks_bucket(error):
        return f"{target.url}: no such bucket"
    if isinstance(error, NotFoundError | FileNotFoundError):
        missing = _KEY.search(text)
        return f"{target.url} holds no {missing[1] if missing else 'such object'}"
    where = target.endpoint or target.url
    if code:
        said = _MESSAGE.search(text)
        return f"{where} answers {code[1]}{f': {said[1]}' if said else ''}"
    # The library's chain of causes ends with the one that matters, before the dump of the whole error.
    cause = text.partition(_DUMP)[0].strip().rpartition(" - ")[2][:200]
    return f"cannot reach {where}: {cause or type(error).__name__}"
