"""What stands at a target: arrays with a manifest and without, and the groups that hold them."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
import obstore
from obstore.exceptions import BaseError

from harness.datasets import manifest
from harness.datasets.array import METADATA_NAMES, ArrayInfo
from harness.datasets.manifest import Manifest
from harness.datasets.metadata import decoded, of_metadata, of_metadata2
from harness.errors import BadUseError
from harness.targets.client import lacks_bucket, open_store, reaching
from harness.targets.obstore import Store
from harness.targets.target import EMBEDDED, Target

_DEPTH = 3
"""Folders below a target in which arrays are looked for: ``preset/name``, and a group around them."""
_SHOWN = 12
"""Arrays of a group that an error names."""
_DESCRIBED = {METADATA_NAMES[3]: of_metadata, METADATA_NAMES[2]: of_metadata2}
"""What makes an array of its document, in the order in which they are looked for."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """An array that stands at a target, or something that is one in part."""

    key: str
    """Below the target's URL, e.g. ``demo/small``."""
    array: ArrayInfo | None
    """None where it cannot be measured."""
    has_manifest: bool
    trouble: str | None = None
    """Why it cannot be measured."""


def at_url(target: Target) -> tuple[Target, ArrayInfo] | None:
    """Return the array that stands at a target's URL itself, with the target whose key it is; None if none does.

    Raises
    ------
    BadUseError
        Something else stands there, or an array that cannot be measured; of a group the message names its arrays.
    StoreError
        The target cannot be reached or refuses.
    """
    above, _, last = target.url.rstrip("/").rpartition("/")
    key = (_decoded(target, last) if target.is_http else last) if target.prefix else ""
    array = _array_at(target, "", key or target.url)
    if array is None:
        return None
    if not key:
        raise BadUseError(f"{target.url} is an array without a name: put it below a prefix")
    return msgspec.structs.replace(target, url=above), array


def below(target: Target, path: str) -> ArrayInfo:
    """Return the array at a path below a target's URL, as ``--array`` names it; errors as of `at_url`.

    Raises
    ------
    BadUseError
        Also where nothing stands there.
    """
    key = path.strip("/")
    if not key.isprintable() or {"", ".", ".."} & set(key.split("/")):
        raise BadUseError(f"{path!r} is no path of an array: names with slashes between, and none of them is . or ..")
    array = _array_at(target, key, key)
    if array is None:
        raise BadUseError(f"{target.url} has no array {key!r}{_listed(target, '')}")
    return array


def _array_at(target: Target, folder: str, key: str) -> ArrayInfo | None:
    """Return the array that a folder below a target is; None where nothing is there."""
    may_miss = target.name == EMBEDDED
    with reaching(target):
        store = open_store(target, prefix=folder, retry=False)
        for name, described in _DESCRIBED.items():
            document = manifest.read(store, name, bucket_may_miss=may_miss)
            if document is None:
                continue
            if _node_type(document) == "group":
                break
            return described(key, document)
        else:
            if manifest.read(store, ".zgroup", bucket_may_miss=may_miss) is None:
                return None
    raise BadUseError(f"{key!r} is a group, not an array{_listed(target, folder)}")


def _listed(target: Target, folder: str) -> str:
    """Return how the arrays of a group are named, as the end of an error's line."""
    with reaching(target):
        keys = [one.key for one in itertools.islice(_all_in(target, folder), _SHOWN + 1)]
    if not keys:
        return ": name one of its arrays by --array PATH" if target.is_http else ", and no array is in it"
    shown = ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
    return f": name an array by --array: {shown}"


def _decoded(target: Target, part: str) -> str:
    """Return the name that a part of an address stands for; a BadUseError says that it cannot be a key's last part."""
    try:
        name = unquote(part, errors="strict")
    except UnicodeDecodeError:
        name = ""
    if not name.isprintable() or name in ("", ".", "..") or "/" in name:
        raise BadUseError(f"{target.url} ends with {part!r}, which stands for no name that an array can have")
    return name


def find_all(target: Target) -> list[Found]:
    """Return the arrays at a target, in order of their keys: those below it and those in its folders and groups.

    Plain HTTP cannot list: there they are those of the group at the URL, where it has consolidated metadata.

    Raises
    ------
    BadUseError
        A target that cannot be listed.
    StoreError
        The target cannot be reached or refuses.
    """
    with reaching(target):
        found = sorted(_all_in(target, ""), key=lambda one: one.key)
    if target.is_http and not found:
        raise BadUseError(
            f"target {target.name!r} is read by plain HTTP, which cannot list, and no group with consolidated "
            "metadata stands there"
        )
    return found


def _all_in(target: Target, folder: str) -> Iterator[Found]:
    """Yield the arrays in a folder, by their group's consolidated metadata where nothing can be listed."""
    store = open_store(target, retry=False)
    if target.is_http:
        yield from _consolidated(store, folder)
        return
    try:
        yield from _below(store, folder, _DEPTH)
    except BaseError as error:
        if not (target.name == EMBEDDED and lacks_bucket(error)):
            raise


def _below(store: Store, folder: str, depth: int) -> Iterator[Found]:
    """Yield the arrays in a folder, and in its folders where it may go deeper; nothing is listed inside an array."""
    listed = obstore.list_with_delimiter(store, f"{folder}/" if folder else None)
    names = {meta["path"] for meta in listed["objects"]}
    folders = [prefix.rstrip("/") for prefix in listed["common_prefixes"]]
    manifests = {name.removesuffix(Manifest.SUFFIX) for name in names if name.endswith(Manifest.SUFFIX)}
    for key in sorted({*folders, *manifests}):
        documents = ((name, manifest.read(store, f"{key}/{name}")) for name in _DESCRIBED)
        name, document = next(((name, document) for name, document in documents if document), ("", b""))
        if name and _node_type(document) != "group":
            yield _found(key, name, document, key in manifests)
        elif key in manifests:
            yield Found(key=key, array=None, has_manifest=True, trouble="unfinished: run its `zcb data create` again")
        elif depth > 1:
            yield from _below(store, key, depth - 1)


def _consolidated(store: Store, folder: str) -> list[Found]:
    """Return the arrays that a group's consolidated metadata name, of v3 or of v2; none where it has no such."""
    above = f"{folder}/" if folder else ""
    found = []
    for name, place in (("zarr.json", "consolidated_metadata"), (".zmetadata", "")):
        document = manifest.read(store, above + name)
        try:
            group = {} if document is None else decoded(document)
            nodes = (group.get(place) or {} if place else group).get("metadata") or {}
            documents = [(path, msgspec.json.encode(node)) for path, node in nodes.items()]
        except (ValueError, TypeError, AttributeError):
            continue  # it is no group's: whoever asks hears that nothing could be listed
        for path, node in documents:
            if place and _node_type(node) == "array":
                found.append(_found(above + path, METADATA_NAMES[3], node, False))
            elif not place and path.endswith(f"/{METADATA_NAMES[2]}"):
                found.append(_found(above + path.removesuffix(f"/{METADATA_NAMES[2]}"), METADATA_NAMES[2], node, False))
    return found


def _found(key: str, name: str, document: bytes, has_manifest: bool) -> Found:
    try:
        array = _DESCRIBED[name](key, document)
    except BadUseError as error:
        return Found(key=key, array=None, has_manifest=has_manifest, trouble=str(error))
    return Found(key=key, array=array, has_manifest=has_manifest)


def _node_type(document: bytes) -> str | None:
    """Return what a ``zarr.json`` says that it describes; None for another document."""
    try:
        fields: Mapping[str, Any] = decoded(document)
        found = fields.get("node_type")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None
