"""The bucket behind a target: the embedded store's is made when it is missing, any other must exist."""

import obstore
from obstore.exceptions import BaseError, NotFoundError

from harness.errors import BadUseError, StoreError
from harness.targets.client import lacks_bucket, open_store, reaching
from harness.targets.target import EMBEDDED, Target


def ensure_bucket(target: Target) -> None:
    """Check that the bucket of `target` is there; on the embedded store, make it.

    Raises
    ------
    BadUseError
        A target that cannot be written to.
    StoreError
        No such bucket, refused, or not reachable.
    """
    if target.is_http:
        raise BadUseError(f"target {target.name!r} is read by plain HTTP, which cannot write")
    with reaching(target):
        try:
            obstore.list_with_delimiter(open_store(target, retry=False))
        except BaseError as error:
            if not lacks_bucket(error):
                raise
            if target.name != EMBEDDED:
                raise NotFoundError(str(error)) from error
            _create(target)


def _create(target: Target) -> None:
    """Create the bucket with botocore, since obstore has no call for it."""
    import botocore.session  # slow to import, and every command imports this module
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    config = Config(
        signature_version=UNSIGNED if target.anonymous else "s3v4",
        s3={"addressing_style": "path"},
        retries={"total_max_attempts": 1},
    )
    session = botocore.session.get_session()
    client = session.create_client(
        "s3", endpoint_url=target.endpoint, region_name=target.region, verify=target.ca, config=config
    )
    try:
        client.create_bucket(Bucket=target.bucket)
    except (BotoCoreError, ClientError) as error:
        raise StoreError(f"cannot create bucket {target.bucket!r} at {target.endpoint}: {error}") from error
