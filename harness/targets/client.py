"""The object store behind a target, for the harness's own reading and writing (not for readers under test)."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore

from harness.errors import StoreError
from harness.machine.environment import direct
from harness.store import state
from harness.store.state import KEY_VARIABLES
from harness.targets.obstore import Store, obstore_store
from harness.targets.target import Target
from harness.targets.timeouts import allowed_silence

_CODE = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")
_CLIENT_ERROR = re.compile(r"status code: 4\d\d\b")
_REFUSED = re.compile(r"status code: 40[13]\b")
_KEY = re.compile(r"Object at location (\S+) not found")
_DUMP = "\n\nDebug source"
_MOST_NBYTES = 256 << 20
"""A manifest takes 8 for each of at most 20,000,000 chunks."""
_STATUS = re.compile(r"status code: (\d+ [A-Z][\w '-]*\w|\d+)")
_SILENT = re.compile(r"operation timed out|TimedOut")
_BAD_ANSWERS = {
    "non-partial response": "answers a request for a byte range with the whole object",
    "Range request not supported": "answers a request for a byte range with the whole object",
    "Content-Range header not present": "does not say which byte range it answers (no Content-Range)",
    "416 Range Not Satisfiable": "refuses a byte range (416 Range Not Satisfiable): the object is shorter, or it knows "
    "no such ranges",
    "Content-Length Header missing": "does not say how long an object is (no Content-Length)",
}
"""What a library says of an answer that it cannot use -> what the server did."""
_FULL = "no storage space"
"""What the embedded store says where its disk is full."""
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")


def open_store(
    target: Target, *, prefix: str = "", retry: bool = True, client: Mapping[str, object] = MappingProxyType({})
) -> Store:
    """Return the store of `target`, rooted at its prefix joined with `prefix`.

    Parameters
    ----------
    target
        Where to read or write.
    prefix
        Key prefix below the target's own, e.g. ``demo/small``.
    retry
        False fails at the first refused request instead of retrying for minutes.
    client
        Options of its HTTP client beside ours, which a reader was tuned to.
    """
    with direct():  # as the readers' processes reach it
        return obstore_store(target, prefix=prefix, retry=retry, client=client)


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


def is_an_answer(error: BaseException) -> bool:
    """Whether the store refused, or has no such object (a status of 4xx), rather than not being there or broken."""
    refused = isinstance(error, NotFoundError | FileNotFoundError | PermissionDeniedError | UnauthenticatedError)
    return refused or _CLIENT_ERROR.search(str(error)) is not None


def require(target: Target, key: str) -> None:
    """Check that `key` can be read at `target`; a StoreError says why not.

    It is read: there are servers that refuse to be asked for less (HEAD), and no reader does.
    """
    with reaching(target):
        fetched(open_store(target, retry=False), key)


def fetched(store: ObjectStore, key: str) -> bytes:
    """Return the whole object at `key`.

    Raises
    ------
    StoreError
        It comes compressed: then a byte range of the answer is not that of the object. Or it is larger than any
        metadata or manifest.
    """
    answer = obstore.get(store, key)
    if answer.meta["size"] > _MOST_NBYTES:  # before its body comes
        raise StoreError(
            f"{key} has {answer.meta['size']} bytes: no metadata and no manifest has more than {_MOST_NBYTES}"
        )
    encoding = answer.attributes.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise StoreError(
            f"{key} comes with Content-Encoding: {encoding}, so that no byte range of a shard can be asked for: "
            "let the server send objects as they are"
        )
    return bytes(answer.bytes())


def _complaint(target: Target, error: BaseException) -> str:
    """Return one line for an error of the object store; the server's own code says it best where there is one."""
    text = str(error)
    code = _CODE.search(text)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _REFUSED.search(text):
        what = "to be read" if target.is_http else "these credentials"
        return f"{target.url} refuses {what}{f' ({code[1]})' if code else ''}{_lacking(target)}"
    if lacks_bucket(error):
        return f"{target.url}: no such bucket"
    if isinstance(error, NotFoundError | FileNotFoundError):
        missing = _KEY.search(text)
        there = "" if target.is_http else f": `zcb data list --target {target.name}` shows what is there"
        return f"{target.url} holds no {missing[1] if missing else 'such object'}{there}"
    return _trouble(target, text, code) or _unreachable(target, error)


def _lacking(target: Target) -> str:
    """Return what the environment lacks of a bucket's credentials, which may also come from elsewhere."""
    missing = [name for name in KEY_VARIABLES if not os.environ.get(name)]
    if not target.url.startswith("s3://") or target.anonymous or not missing:
        return ""
    are = "is" if len(missing) == 1 else "are"
    return f": {' and '.join(missing)} {are} not set (public data: `anonymous = true` in targets.toml)"


def _trouble(target: Target, text: str, code: re.Match[str] | None) -> str | None:
    """Return one line for a store that was reached: what it answered, or that it does not; None where it was not."""
    where = target.endpoint or target.url
    if _SILENT.search(text):
        seconds = allowed_silence()
        host = urlsplit(target.service_url).netloc
        return f"no answer from {host}" + ("" if seconds is None else f" within {seconds:g} s")
    if code:
        said = _MESSAGE.search(text)
        return f"{where} answers {code[1]}{f': {said[1]}' if said else ''}{_full_disk(target, text)}"
    bad = next((words for sign, words in _BAD_ANSWERS.items() if sign in text), None)
    if bad:
        return f"{where} {bad}"
    status = _STATUS.search(text)
    return f"{where} answers {status[1]}" if status else None


def _full_disk(target: Target, text: str) -> str:
    """Return whose disk it is where the embedded store found it full."""
    store = state.running() if target.profile is not None and _FULL in text else None
    return "" if store is None else f": make room on the disk of {store.root}"


def _unreachable(target: Target, error: BaseException) -> str:
    # The library's chain of causes ends with the one that matters, before the dump of the whole error.
    cause = str(error).partition(_DUMP)[0].strip().rpartition(" - ")[2][:200]
    return f"cannot reach {target.endpoint or target.url}: {cause or type(error).__name__}"
