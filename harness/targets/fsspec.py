"""How fsspec is told where a target is."""

import ipaddress
import re
from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from harness.errors import UnsupportedError
from harness.targets.target import DEFAULT_REGION, Target, address, joined

if TYPE_CHECKING:
    import aiohttp

GCSFS = "gcsfs"
"""What fsspec reads ``gs://`` with: it brings too much along to be installed for one reader of one cloud."""

_LACKS = {} if find_spec(GCSFS) else {"gs": f"{GCSFS} (the extra clouds), which is not installed"}
UNREAD = _LACKS | {"az": "adlfs, which cannot ask for the end of an object, where a shard's index stands"}
"""Schemes that it cannot read -> what it would need."""

_VERSION = "?versionId="


_BOTOCORE_DEFAULTS: dict[str, Any] = {
    "retries": {"mode": "legacy", "total_max_attempts": 5},
    "s3": {"addressing_style": "auto", "use_accelerate_endpoint": False},
    "use_dualstack_endpoint": False,
    "use_fips_endpoint": False,
}
"""botocore's defaults: unless said, it takes them from the file in which it also looks for credentials."""


class FsspecLocation(NamedTuple):
    """What fsspec needs to find an array."""

    protocol: str
    path: str
    """Inside the file system; of plain HTTP the whole address."""
    options: dict[str, Any]
    """Of the file system."""


def fsspec_location(
    target: Target,
    key: str,
    *,
    connections: int,
    trace: "aiohttp.TraceConfig",
    s3fs_options: Mapping[str, object] = MappingProxyType({}),
) -> FsspecLocation:
    """Return where fsspec finds the array `key`, through HTTP sessions that `trace` is told of.

    Parameters
    ----------
    connections
        Those that the file system may open.
    s3fs_options
        Settings of s3fs, which plain HTTP has none of.

    Raises
    ------
    UnsupportedError
        The scheme needs a file system that is not installed or cannot do it, or cannot be told this key.
    """
    if target.scheme in UNREAD:
        needed = UNREAD[target.scheme]
        raise UnsupportedError(f"fsspec reads {target.scheme}:// with {needed}")
    if target.is_http:
        options = {"get_client": _traced_client(connections, trace, target.ca), "skip_instance_cache": True}
        return FsspecLocation(target.scheme, address(_without_colon_pairs(target.url), key), options)
    path = joined(target.bucket, target.prefix, key)
    if target.scheme == "gs":
        return FsspecLocation("gs", path, _gcsfs_options(target, trace))
    from harness.targets.tracing import traced_session

    if _VERSION in path:
        raise UnsupportedError(f"s3fs takes what follows {_VERSION} in a key for an object's version")
    return FsspecLocation(
        "s3",
        path,
        {
            "anon": target.anonymous,
            "requester_pays": target.requester_pays,
            "endpoint_url": target.endpoint,
            "client_kwargs": {"region_name": target.region or DEFAULT_REGION}
            | ({"verify": target.ca} if target.ca else {}),
            "config_kwargs": {
                "max_pool_connections": connections,
                "http_session_cls": traced_session(trace),
                **_BOTOCORE_DEFAULTS,
            },
            "skip_instance_cache": True,
            **s3fs_options,
        },
    )


def _gcsfs_options(target: Target, trace: "aiohttp.TraceConfig") -> dict[str, Any]:
    """Return the options of gcsfs: it has none for its connections, which are aiohttp's 100."""
    return {
        "token": "anon" if target.anonymous else "google_default",
        "endpoint_url": target.endpoint,
        "session_kwargs": {"trace_configs": [trace]},
        "skip_instance_cache": True,
    }


def _without_colon_pairs(url: str) -> str:
    """Return a URL whose host is no shortened IPv6 address: fsspec takes ``::`` for the border of two URLs."""
    host = urlsplit(url).hostname or ""
    return re.sub(r"\[.*?\]", f"[{ipaddress.IPv6Address(host).exploded}]", url, count=1) if ":" in host else url


def _traced_client(connections: int, trace: "aiohttp.TraceConfig", ca: str | None) -> Any:
    import ssl

    import aiohttp

    trace.freeze()

    async def client(**options: Any) -> aiohttp.ClientSession:
        # A connector belongs to the event loop it is made on, so it is made here.
        trust = ssl.create_default_context(cafile=ca) if ca else True
        connector = aiohttp.TCPConnector(limit=connections, ssl=trust)
        return aiohttp.ClientSession(connector=connector, trace_configs=[trace], **options)

    return client
