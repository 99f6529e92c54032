"""The embedded store's control port: what the store itself counted, and the faults it is to inject.

The processes that measure import this module, so it needs nothing beyond the standard library and msgspec.
"""

import http.client
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from harness.errors import StoreError

_TIMEOUT_S = 10.0

FAULTS = {
    "slow-down": "503 SlowDown",
    "internal-error": "500 InternalError",
    "reset": "the connection is reset instead of an answer",
    "reset-body": "the connection is reset after half of the body",
    "truncate": "the connection is closed after half of the body",
    "corrupt": "one bit of the body is wrong",
    "wrong-range": "the answered range begins one byte late",
    "hang": "no answer at all",
    "trickle": "the body comes at 50 kB/s",
    "expired-token": "403 ExpiredToken",
    "missing": "404 NoSuchKey",
}
"""What the store can do to an answer."""

ERROR_FAULTS = frozenset({"slow-down", "internal-error", "expired-token", "missing"})
"""Those that are answers of their own and count as errors."""


class FaultRule(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests meet a fault: of their kind, from the `first` on every `every`-th, `count` of them.

    Requests are counted from the moment the rule was set, and anew from each `StoreControl.reset_draws`.
    """

    fault: str
    """One of `FAULTS`."""
    kind: Literal["index", "data", "metadata"] = "data"
    first: int = 1
    every: int = 1
    count: int = 1
    """0 has no end."""


class _Rules(msgspec.Struct, frozen=True):
    rules: list[FaultRule]


class StoreCounters(msgspec.Struct, frozen=True, kw_only=True):
    """What the store did in an interval; `connections_open`, `in_flight`, `rss_bytes` are of now."""

    requests: int
    get_index: int
    """GETs of a shard's index: of an object's last bytes, however the range was written."""
    get_data: int
    get_metadata: int
    head: int
    put: int
    list: int
    delete: int
    other: int
    errors: int
    """Answers with status 400 or above, whatever the operation."""
    errors_by_status: dict[str, int]
    faults: int
    """Faults that the store was told to inject."""
    faults_by_name: dict[str, int]
    retries: int
    """Requests that asked again for what an injected fault had spoiled."""
    bytes_out: int
    """Bytes of response bodies sent."""
    bytes_in: int
    """Bytes of request bodies received."""
    connections_accepted: int
    connections_open: int
    in_flight: int
    max_in_flight: int
    cpu_seconds: float
    """User and system time of the store's process."""
    rss_bytes: int
    peak_rss_bytes: int


class LoggedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the store saw it; times are nanoseconds of this machine's monotonic clock."""

    method: str
    bucket: str
    key: str
    range: tuple[int, int] | None
    """Answered bytes of the object: the first, and the one after the last; None for all but a 206."""
    kind: str
    """The counter it went to: ``get_index``, ``put``, ..."""
    status: int
    """0 when the client left before there was an answer."""
    bytes: int
    """Bytes of the response body sent."""
    connection: int
    """Number of the connection, in the order of accepting."""
    received_ns: int
    first_byte_ns: int
    """First byte of the body, or the headers of an empty answer, given to the socket; 0 without an answer."""
    last_byte_ns: int


class _Log(msgspec.Struct, frozen=True):
    requests: list[LoggedRequest]
    dropped: int


class StoreControl:
    """A client of the control port over one kept connection; not for several threads at once.

    Every method raises `StoreError` when the store cannot be reached or refuses.

    Parameters
    ----------
    url
        ``http://host:port`` as in `harness.store.state.StoreState.control`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_S)

    def health(self) -> None:
        """Return when the store answers."""
        self._ask("GET", "/health")

    def mark(self, name: str, *, log: bool = False) -> None:
        """Start (or start anew) the interval `name`; `log` also keeps its requests one by one."""
        self._ask("POST", f"/marks/{quote(name, safe='')}{'?log=1' if log else ''}")

    def since(self, name: str) -> StoreCounters:
        """Return what happened since `mark`; a request counts once it is answered."""
        return self._decoded(StoreCounters, f"/marks/{quote(name, safe='')}")

    def requests(self, name: str) -> list[LoggedRequest]:
        """Return the requests since ``mark(name, log=True)``, in the order in which they ended: all that it counts."""
        log = self._decoded(_Log, f"/marks/{quote(name, safe='')}/requests")
        if log.dropped:
            raise StoreError(
                f"the store's log of {name!r} is incomplete: {log.dropped} requests did not fit or had begun before"
            )
        return log.requests

    def forget(self, name: str) -> None:
        """End the interval `name` and free its log."""
        self._ask("DELETE", f"/marks/{quote(name, safe='')}")

    def counters(self) -> StoreCounters:
        """Return the counters since the store started."""
        return self._decoded(StoreCounters, "/counters")

    def reset_draws(self, round_number: int = 0) -> None:
        """Rewind service times and faults: in a round the k-th request of a kind gets the same draw and fault again."""
        self._ask("POST", f"/reset-draws/{round_number}")

    def add_fault(self, rule: FaultRule) -> None:
        """Have the store inject a fault; where several rules mean a request, the one set first decides."""
        self._ask("POST", f"/faults?{urlencode(msgspec.structs.asdict(rule))}")

    def faults(self) -> list[FaultRule]:
        """Return the rules in force; none unless somebody asked for them."""
        return self._decoded(_Rules, "/faults").rules

    def clear_faults(self) -> None:
        """Inject no more faults."""
        self._ask("DELETE", "/faults")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decoded[T](self, kind: type[T], path: str) -> T:
        body = self._ask("GET", path)
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise StoreError(f"{self.url}{path} answers something unexpected: {error}") from error

    def _ask(self, method: str, path: str) -> bytes:
        """Send one request; all of them may be repeated, so a connection closed while idle is renewed."""
        fresh = self._connection.sock is None
        try:
            return self._exchange(method, path)
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            if fresh or isinstance(error, TimeoutError):
                raise StoreError(f"cannot reach the store's control port {self.url}: {_reason(error)}") from error
        return self._ask(method, path)

    def _exchange(self, method: str, path: str) -> bytes:
        self._connection.request(method, path)
        with self._connection.getresponse() as response:
            body = response.read()
        if response.status >= http.client.BAD_REQUEST:
            raise StoreError(f"{method} {self.url}{path} answers {response.status}: {_message(body)}")
        return body


def _message(body: bytes) -> str:
    try:
        decoded: Any = msgspec.json.decode(body)
        return str(decoded["error"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body.decode(errors="replace").strip()[:200]


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
