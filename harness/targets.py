"""Targets: the places data is read from, by name from ``targets.toml`` or by URL."""

import os
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from harness.errors import BadUseError
from harness.paths import ROOT
from harness.store import state

EMBEDDED = "embedded"
PROFILES = ("loopback", "s3", "s3-tail")


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place to read from; complete enough for a reader in any language, and free of credentials."""

    name: str
    url: str
    """``s3://bucket/prefix``"""
    endpoint: str | None = None
    """Address of an S3-compatible service; None is the cloud's own."""
    region: str | None = None
    anonymous: bool = False
    """True reads without credentials; False takes them from the cloud's standard chain."""
    profile: str | None = None
    """Service-time profile of the embedded store; None elsewhere."""
    link: str | None = None
    """Network that the embedded store serves on where it is not loopback: ``veth``."""

    def __post_init__(self) -> None:
        """Refuse a URL that may hold a secret, without repeating it: a target is written into every result.

        Raises
        ------
        BadUseError
            A user, a password or a query in an address.
        """
        for address in (self.url, self.endpoint or ""):
            if "@" in address or "?" in address:
                raise BadUseError(
                    "a target's address holds a user, a password or a query: credentials come from each cloud's "
                    "standard chain, and never stand in an address"
                )

    @property
    def identity(self) -> str:
        """What keeps figures of two targets apart, e.g. ``embedded:s3`` or ``embedded:s3+veth``."""
        place = f"{self.name}:{self.profile}" if self.profile else self.name
        return f"{place}+{self.link}" if self.link else place

    @property
    def bucket(self) -> str:
        """The bucket in the URL."""
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """The key prefix in the URL, without slashes at its ends; empty for the whole bucket."""
        return urlsplit(self.url).path.strip("/")


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of targets.toml."""

    url: str
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False


def targets_file() -> Path:
    """Return the file that names the targets (``ZCB_TARGETS``, default ``targets.toml``)."""
    return Path(os.environ.get("ZCB_TARGETS") or ROOT / "targets.toml")


def resolve(name: str) -> Target:
    """Return the target called `name`: a table of targets.toml or an ``s3://`` URL.

    ``embedded`` is the running store, whatever its profile and link; ``embedded:s3`` also demands that profile on
    loopback and ``embedded:s3+veth`` that link, so that figures of two profiles or two routes cannot mix.

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
        raise BadUseError(f"unknown target {name!r}: {targets_file().name} names {', '.join(entries) or 'none'}")
    entry = entries[name]
    if name == EMBEDDED:
        return _checked(_embedded(entry, profile))
    if profile:
        raise BadUseError(f"target {name!r} has no service-time profile: only {EMBEDDED!r} does")
    return _checked(Target(name=name, **msgspec.structs.asdict(entry)))


def _entries() -> dict[str, _Entry]:
    path = targets_file()
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text())
        return {name: msgspec.convert(table, _Entry) for name, table in tables.items()}
    except OSError as error:
        raise BadUseError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise BadUseError(f"{path}: {error}") from error


def _embedded(entry: _Entry, asked: str) -> Target:
    profile, _, link = asked.partition("+")
    if profile and profile not in PROFILES:
        raise BadUseError(f"unknown profile {profile!r}: choose from {', '.join(PROFILES)}")
    if link not in ("", "veth"):
        raise BadUseError(f"unknown link {link!r}: it is veth, or not named")
    store = state.require_running()
    if asked and (link or "lo") != store.link.name:
        raise BadUseError(
            f"the running store serves on {store.link.name}, not on {link or 'lo'}: "
            f"run `zcb store stop`, then `zcb store start --profile {profile} --link {link or 'lo'}`"
        )
    if profile and profile != store.profile.name:
        raise BadUseError(
            f"the running store has profile {store.profile.name!r}, not {profile!r}: "
            f"run `zcb store stop`, then `zcb store start --profile {profile}`"
        )
    return Target(
        name=EMBEDDED,
        url=entry.url,
        endpoint=store.endpoint,
        region="us-east-1",
        anonymous=not store.auth,
        profile=store.profile.name,
        link=None if store.link.name == "lo" else store.link.name,
    )


def _checked(target: Target) -> Target:
    parts = urlsplit(target.url)
    if parts.scheme != "s3":
        raise BadUseError(f"target {target.name!r}: {target.url!r} is not an s3:// URL, the only scheme supported")
    if not parts.netloc or parts.username or parts.query or parts.fragment:
        raise BadUseError(f"target {target.name!r}: {target.url!r} is not of the form s3://bucket/prefix")
    return target
