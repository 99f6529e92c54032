"""A target: a place that data is read from."""

from urllib.parse import quote, unquote, urlsplit

import msgspec

from harness.errors import BadUseError

EMBEDDED = "embedded"

HTTP = ("http", "https")

DEFAULT_REGION = "us-east-1"

TLS, SIGNED = "tls", "signed"
"""Ways to reach the embedded store, as a target's name demands them: ``embedded:s3+tls+signed``."""


def goes_by_tls(identity: str) -> bool:
    """Whether a target's `identity` says that the embedded store was reached by TLS."""
    return TLS in identity.partition("@")[0].split("+")


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place to read from; complete enough for a reader in any language, and free of credentials."""

    name: str
    url: str
    """``s3://bucket/prefix``, the same with ``gs`` or ``az``, or ``https://host/path`` (or ``http``)."""
    endpoint: str | None = None
    """Address of a service that speaks the cloud's protocol; None is the cloud's own."""
    region: str | None = None
    """Of an S3 bucket."""
    account: str | None = None
    """Storage account of an ``az://`` container."""
    anonymous: bool = False
    """True reads without credentials; False takes them from the cloud's standard chain."""
    requester_pays: bool = False
    """True accepts that an S3 bucket charges whoever reads it."""
    ca: str | None = None
    """File of the certificate authority to trust, PEM; None trusts those that everybody does."""
    nic: tuple[str, ...] = ()
    """Interfaces of this machine whose counters are read; empty is the one that the route to the service takes."""
    profile: str | None = None
    """Service-time profile of the embedded store, e.g. ``s3``, ``custom(5ms,90MB/s,10Gbit/s)``; None elsewhere."""
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
        """What keeps figures of two targets apart, e.g. ``embedded:s3+tls`` or ``az://container/prefix@account``."""
        profile = f":{'+'.join([self.profile, *self.ways])}" if self.profile else ""
        return f"{self.name}{profile}" + (f"@{self.account}" if self.account else "")

    @property
    def ways(self) -> list[str]:
        """How the embedded store is reached beyond plain, unsigned HTTP on loopback; none of other targets."""
        if self.profile is None:
            return []
        found = (self.link, TLS if self.is_encrypted else None, None if self.anonymous else SIGNED)
        return [way for way in found if way is not None]

    @property
    def is_encrypted(self) -> bool:
        """Whether requests go by TLS."""
        return self.service_url.startswith("https:")

    @property
    def scheme(self) -> str:
        """The scheme of the URL: ``s3``, ``gs``, ``az``, ``http`` or ``https``."""
        return urlsplit(self.url).scheme

    @property
    def is_http(self) -> bool:
        """Whether objects are read by plain HTTP, which cannot list or write them."""
        return self.scheme in HTTP

    @property
    def knows_suffixes(self) -> bool:
        """Whether the last bytes of an object can be asked for without its size."""
        return self.scheme != "az"

    @property
    def service_url(self) -> str:
        """Where requests go, e.g. ``https://bucket.s3.us-east-1.amazonaws.com``."""
        if self.endpoint:
            return self.endpoint
        return {
            "s3": f"https://{self.bucket}.s3.{self.region or DEFAULT_REGION}.amazonaws.com",
            "gs": "https://storage.googleapis.com",
            "az": f"https://{self.account}.blob.core.windows.net",
        }.get(self.scheme, f"{self.scheme}://{self.bucket}")

    @property
    def bucket(self) -> str:
        """The bucket or container in the URL; of plain HTTP the host."""
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """The key prefix in the URL, without slashes at its ends; empty for the whole bucket.

        Of plain HTTP it is decoded: an address holds keys percent-encoded, other URLs hold them as they are.
        """
        path = urlsplit(self.url).path.strip("/")
        return unquote(path) if self.is_http else path


def address(url: str, key: str) -> str:
    """Return the address of a key below a plain HTTP address, which stands as it is: what every library is told.

    Whatever is not unreserved is percent-encoded, so that no library takes a part of the key for something else.
    """
    return joined(url.rstrip("/"), quote(key, safe="/"))


def joined(*parts: str) -> str:
    """Return the non-empty parts of a key, joined by slashes."""
    return "/".join(filter(None, parts))
