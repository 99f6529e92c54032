"""Targets: the places data is read from, by name from ``targets.toml`` or by URL."""

import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

import msgspec
import psutil

from harness.errors import BadUseError, unknown
from harness.paths import shipped
from harness.store import state
from harness.store.state import PROFILES
from harness.targets.target import DEFAULT_REGION, EMBEDDED, HTTP, SIGNED, TLS, Target

_FORMS = {
    "s3": "s3://bucket/prefix",
    "gs": "gs://bucket/prefix",
    "az": "az://container/prefix",
    "http": "http://host/path",
    "https": "https://host/path",
}
"""The schemes of URLs, and how one of each is written."""

_ONLY_FOR = {"region": ("s3",), "requester_pays": ("s3",), "account": ("az",), "endpoint": ("s3", "gs", "az")}
"""The schemes that a key means something for; the others stand for all."""

_WAYS = {"veth": "--link veth", TLS: "--tls", SIGNED: "--auth"}
"""Ways to reach the embedded store, in the order of names, and what `zcb store start` is told for them."""

_ACCOUNT_VARIABLE = "AZURE_STORAGE_ACCOUNT_NAME"
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of targets.toml."""

    url: str
    endpoint: str | None = None
    region: str | None = None
    account: str | None = None
    anonymous: bool = False
    requester_pays: bool = False
    ca: str | None = None
    nic: str | tuple[str, ...] = ()


def targets_file() -> Path:
    """Return the file that names the targets (``ZCB_TARGETS``, default ``targets.toml``)."""
    return Path(os.environ.get("ZCB_TARGETS") or shipped("targets.toml"))


def resolve(name: str) -> Target:
    """Return the target called `name`: a table of targets.toml or a URL.

    ``embedded`` is the running store, whatever its profile and link; ``embedded:s3`` also demands that profile on
    loopback, ``embedded:s3+veth`` that link and ``embedded:s3+tls+signed`` TLS and signed requests, so that figures of
    two profiles or two ways cannot mix.

    Raises
    ------
    BadUseError
        Unknown name, malformed file or URL, or a store with another profile.
    StoreError
        The embedded store is not running.
    """
    if "://" in name:
        return _checked(Target(name=name, url=name))
    name, _, profile = name.partition(":")
    entries = _entries()
    if name not in entries:
        if not entries:
            raise BadUseError(f"unknown target {name!r}: {targets_file().name} names none")
        raise unknown("target", name, entries)
    entry = entries[name]
    if name == EMBEDDED:
        return _checked(_embedded(entry, profile))
    if profile:
        raise BadUseError(f"target {name!r} has no service-time profile: only {EMBEDDED!r} does")
    given = msgspec.structs.asdict(entry) | {"nic": (entry.nic,) if isinstance(entry.nic, str) else entry.nic}
    if entry.ca:
        given["ca"] = str(targets_file().absolute().parent / Path(entry.ca).expanduser())
    return _checked(Target(name=name, **given))


def found_again(target: Target) -> Target:
    """Return a target that was resolved earlier, as it is now: the embedded store may serve elsewhere since.

    Raises
    ------
    StoreError
        The embedded store is not running.
    """
    return _at_running_store(target.url) if target.name == EMBEDDED else target


def _entries() -> dict[str, _Entry]:
    path = targets_file()
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: msgspec.convert(table, _Entry) for name, table in tables.items()}
    except OSError as error:
        raise BadUseError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise BadUseError(f"{path}: {error}") from error


def _embedded(entry: _Entry, asked: str) -> Target:
    if entry != _Entry(url=entry.url):
        raise BadUseError(f"target {EMBEDDED!r} takes a url only: the running store says the rest")
    profile, *ways = asked.split("+")
    if profile and profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    for way in ways:
        if way not in _WAYS:
            raise unknown("way to reach the embedded store", way, _WAYS)
    target = _at_running_store(entry.url)
    if asked and (profile, set(ways)) != (target.profile, set(target.ways)):
        raise BadUseError(
            f"the running store is {target.identity!r}, not '{EMBEDDED}:{asked}': run `zcb store stop`, then "
            f"`zcb store start {shlex.join(store_flags(asked))}`"
        )
    return target


def store_flags(asked: str) -> list[str]:
    """Return what `zcb store start` is told for what a target's name demands of the store, e.g. of ``s3+tls``."""
    profile, *ways = asked.split("+")
    return ["--profile", profile or "s3", *(flag for way in ways for flag in _WAYS[way].split())]


def _at_running_store(url: str) -> Target:
    store = state.require_running()
    return Target(
        name=EMBEDDED,
        url=url,
        endpoint=store.endpoint,
        region=DEFAULT_REGION,
        anonymous=not store.auth,
        ca=store.ca,
        profile=store.profile.label,
        link=None if store.link.name == "lo" else store.link.name,
    )


def _checked(target: Target) -> Target:
    """Return the target with what its scheme implies; a BadUseError says what cannot be meant."""
    parts = _parsed(target, target.url)
    if parts.scheme not in _FORMS:
        raise _refused(target, f"{target.url!r} is none of {', '.join(_FORMS.values())}")
    if target.is_http:
        target = msgspec.structs.replace(target, url=_one_spelling(target.url))
        parts = urlsplit(target.url)
    if parts.path.strip("/") and {"", ".", ".."} & set(parts.path.strip("/").split("/")):
        raise _refused(target, f"{target.url!r} has an empty part, . or .. in its path")
    if not target.is_http and ":" in parts.netloc:
        raise _refused(target, f"{target.url!r} names a port: an endpoint has one, a bucket has not")
    for key, schemes in _ONLY_FOR.items():
        if getattr(target, key) and parts.scheme not in schemes:
            raise _refused(target, f"{key} means nothing for {parts.scheme}://, only for {', '.join(schemes)}")
    if target.requester_pays and target.anonymous:
        raise _refused(target, "requester_pays and anonymous exclude each other: who pays has to be known")
    _check_endpoint(target)
    _check_authority(target)
    _check_nics(target)
    return _completed(target, parts.scheme)


def _completed(target: Target, scheme: str) -> Target:
    """Return the target with what its scheme needs and it does not say."""
    if scheme == "s3" and not target.region:
        return msgspec.structs.replace(target, region=_from_environment(*_REGION_VARIABLES))
    if scheme == "az" and not target.account:
        account = _from_environment(_ACCOUNT_VARIABLE)
        if not account:
            raise _refused(target, f"say whose container it is: account in targets.toml, or {_ACCOUNT_VARIABLE}")
        return msgspec.structs.replace(target, account=account)
    return msgspec.structs.replace(target, anonymous=True) if target.is_http else target


def _from_environment(*variables: str) -> str | None:
    """Return the first that is set: it becomes part of the target, since libraries do not read the same ones."""
    return next((os.environ[name] for name in variables if os.environ.get(name)), None)


def _parsed(target: Target, url: str) -> SplitResult:
    """Split a URL that has a host and nothing that is secret or would be lost."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # whether it is a number is only found out when it is asked for
    except ValueError as error:
        raise _refused(target, f"{_shown(url)!r} is no URL: {error}") from error
    if not url.isprintable() or any(character.isspace() for character in url):
        raise _refused(target, f"{_shown(url)!r} holds white space or unprintable characters")
    if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        # A signed URL is refused too: what stands in a URL gets into results.
        form = _FORMS.get(parts.scheme, _FORMS["s3"])
        raise _refused(target, f"{_shown(url)!r} is not of the form {form}, without user, query or fragment")
    return parts


def _one_spelling(url: str) -> str:
    """Return an address whose path is percent-encoded as keys are: libraries differ in what they leave as it stands."""
    parts = urlsplit(url)
    path = "/".join(quote(unquote_to_bytes(part), safe="") for part in parts.path.split("/"))
    return parts._replace(path=path).geturl()


def _check_endpoint(target: Target) -> None:
    if target.endpoint and _parsed(target, target.endpoint).scheme not in HTTP:
        raise _refused(target, f"endpoint {target.endpoint!r} is no http:// or https:// address")


def _check_authority(target: Target) -> None:
    if not target.ca:
        return
    if not target.is_encrypted:
        raise _refused(target, f"ca means nothing for {target.service_url}, which is no https:// address")
    try:
        text = Path(target.ca).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(target, f"cannot read ca {target.ca}: {getattr(error, 'strerror', error)}") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise _refused(target, f"ca {target.ca} holds no certificate (PEM)")


def _check_nics(target: Target) -> None:
    there = psutil.net_if_addrs()
    for name in target.nic:
        if name not in there:
            raise _refused(target, f"nic {name!r} is no interface of this machine, which has {', '.join(there)}")


def _refused(target: Target, why: str) -> BadUseError:
    return BadUseError(f"target {_shown(target.name)!r}: {why}")


def _shown(url: str) -> str:
    """Return a URL as it may be shown: a user's password and a signature in its query stay unsaid."""
    return re.sub(r"//[^/]*@", "//", url).partition("?")[0]
