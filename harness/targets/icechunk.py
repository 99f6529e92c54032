"""How Icechunk is told where a target is."""

from typing import TYPE_CHECKING, Any

from harness.targets.authority import trusted_by_environment
from harness.targets.target import DEFAULT_REGION, Target, address, joined

if TYPE_CHECKING:
    import icechunk

SUFFIX = ".icechunk"
"""The repository that holds the array ``demo/small`` stands beside it, at ``demo/small.icechunk``."""

BRANCH = "main"
"""The repository's branch that holds the array."""


def icechunk_storage(target: Target, key: str) -> "icechunk.Storage":
    """Return where Icechunk finds the repository beside the array `key`.

    Credentials are those of the cloud's own chain, as Icechunk looks for them.
    """
    import icechunk

    target = trusted_by_environment(target)
    if target.is_http:
        return icechunk.http_storage(address(target.url, key + SUFFIX), {"allow_http": "true"})
    prefix = joined(target.prefix, key) + SUFFIX
    who: dict[str, Any] = {"anonymous": target.anonymous, "from_env": not target.anonymous}
    if target.scheme == "s3":
        return icechunk.s3_storage(
            bucket=target.bucket,
            prefix=prefix,
            region=target.region or DEFAULT_REGION,
            endpoint_url=target.endpoint,
            allow_http=True,
            force_path_style=target.endpoint is not None,
            requester_pays=target.requester_pays,
            **who,
        )
    config = {"allow_http": "true"}
    if target.scheme == "gs":
        config |= {"base_url": target.endpoint} if target.endpoint else {}
        return icechunk.gcs_storage(bucket=target.bucket, prefix=prefix, config=config, **who)
    config |= {"endpoint": target.endpoint} if target.endpoint else {}
    return icechunk.azure_storage(
        account=target.account or "", container=target.bucket, prefix=prefix, config=config, **who
    )
