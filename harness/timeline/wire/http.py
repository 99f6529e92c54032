"""HTTP/1.1 on captured connections: each request with its response, and when which byte of the body arrived."""

import io
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import dpkt
import msgspec

from harness.timeline.wire.tcp import Connection, Direction, Unreadable, in_order

_END = b"\r\n\r\n"
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_REQUEST_LINE = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})")
_NO_BODY = (204, 304)
_SUCCESSFUL, _PARTIAL = 200, 206


class Body(NamedTuple):
    """When the bytes of a response's body had arrived, packet by packet."""

    ends: Sequence[int]
    """Bytes of the body up to the end of each packet."""
    stamps_ns: Sequence[int]

    def arrived_ns(self, offset: int) -> int:
        """Return when the byte at `offset` of the body, and all before it, had arrived."""
        return self.stamps_ns[bisect_right(self.ends, offset)]


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its response; times are nanoseconds of the monotonic clock, as the kernel saw the packets."""

    connection: str
    """Address and port of the client."""
    method: str
    path: str
    """As sent, without the query."""
    host: str
    status: int
    range: tuple[int, int] | None
    """Half-open bytes of the object that were answered; None for all but a 206."""
    object_bytes: int | None
    """Size of the object, where the response tells."""
    sent_ns: int
    """The request's last packet left."""
    response_ns: int
    """The response's first packet arrived."""
    headers_ns: int
    """Its headers had arrived."""
    first_byte_ns: int | None
    """First byte of the body; None without a body."""
    last_byte_ns: int
    """Last byte of the response."""
    bytes: int
    """Of the body."""
    body: Body

    @property
    def succeeded(self) -> bool:
        """Whether the body is bytes of the object."""
        return self.status in (_SUCCESSFUL, _PARTIAL)

    @property
    def span(self) -> tuple[int, int]:
        """Half-open bytes of the object in the body of a successful GET."""
        begin = self.range[0] if self.range else 0
        return begin, begin + self.bytes

    def arrived_ns(self, position: int) -> int | None:
        """Return when a byte of the object had arrived; None when it is not in this response."""
        begin, end = self.span
        if not self.succeeded or not begin <= position < end:
            return None
        return self.body.arrived_ns(position - begin)


class _Request(NamedTuple):
    method: str
    path: str
    host: str
    answered_at: int
    """Position of the response in the other direction: what the client had received when it asked."""
    sent_ns: int


def exchanges(connection: Connection) -> tuple[list[Exchange], list[str]]:
    """Return the exchanges of a connection in the order they were sent, and what could not be followed.

    A connection may have begun before the capture: a response without its request in the capture is left out.
    """
    found: list[Exchange] = []
    problems: list[str] = []
    requests: list[_Request] = []
    try:
        for request in _requests(connection.up):
            requests.append(request)  # noqa: PERF402 - those before one that cannot be followed are kept
    except Unreadable as reason:
        problems.append(f"{connection.name}: {reason}")
    for request, following in zip(requests, [*requests[1:], None], strict=False):
        limit = following.answered_at if following else None
        try:
            found.append(_answered(connection, request, limit))
        except Unreadable as reason:
            problems.append(f"{connection.name}: {request.method} {request.path}: {reason}")
    return found, problems


def _requests(up: Direction) -> Iterator[_Request]:
    position = up.pieces[0].begin if up.pieces else 0
    last = up.pieces[-1].end if up.pieces else 0
    while position < last:
        head = _head(up, position, "a request")
        line, _, rest = head.partition(b"\r\n")
        asked = _REQUEST_LINE.fullmatch(line)
        if asked is None:
            raise Unreadable("what the client sent is no HTTP/1 request")
        headers = _parsed(rest)
        if "transfer-encoding" in headers:
            raise Unreadable("a request has a body without length")
        end = position + len(head) + _content_length(headers)
        pieces = up.between(position, end)
        if pieces is None:
            raise Unreadable("a request is incomplete")
        yield _Request(
            method=asked[1].decode(),
            path=asked[2].partition(b"?")[0].decode("latin-1"),
            host=str(headers.get("host", "")),
            answered_at=pieces[0].ack,
            sent_ns=in_order(pieces)[-1],
        )
        position = end


def _answered(connection: Connection, request: _Request, limit: int | None) -> Exchange:
    """Follow the response to a request; `limit` is where the next one begins."""
    down = connection.down
    start, status, headers, body_at = _response_head(down, request.answered_at)
    nbytes = _body_nbytes(request.method, status, headers)
    end = _end(down, body_at, limit) if nbytes is None else body_at + nbytes
    if limit is not None and end != limit:
        raise Unreadable("the next request does not follow this response: pipelined, or packets are missing")
    pieces = down.between(start, end)
    if not pieces:
        raise Unreadable("the response is incomplete")
    stamps = in_order(pieces)
    ends = [piece.end for piece in pieces]

    def arrived(position: int) -> int:
        return stamps[bisect_right(ends, position)]

    first = bisect_right(ends, body_at)
    content = _CONTENT_RANGE.fullmatch(str(headers.get("content-range", "")))
    partial = content if status == _PARTIAL else None
    return Exchange(
        connection=connection.name,
        method=request.method,
        path=request.path,
        host=request.host,
        status=status,
        range=(int(partial[1]), int(partial[2]) + 1) if partial else None,
        object_bytes=_object_nbytes(status, headers, content),
        sent_ns=request.sent_ns,
        response_ns=arrived(start),
        headers_ns=arrived(body_at - 1),
        first_byte_ns=arrived(body_at) if end > body_at else None,
        last_byte_ns=stamps[-1],
        bytes=end - body_at,
        body=Body([e - body_at for e in ends[first:]], stamps[first:]),
    )


def _response_head(down: Direction, start: int) -> tuple[int, int, dict[str, str], int]:
    """Return where the response begins, its status, its headers, and where its body begins."""
    position = start
    while True:
        head = _head(down, position, "the response")
        line, _, rest = head.partition(b"\r\n")
        status = _STATUS_LINE.match(line)
        if status is None:
            raise Unreadable("what the server sent is no HTTP/1 response")
        position += len(head)
        if int(status[1]) >= _SUCCESSFUL:
            return start, int(status[1]), _parsed(rest), position


def _head(direction: Direction, position: int, what: str) -> bytes:
    captured = direction.captured(position)
    length = captured.find(_END)
    if length < 0:
        raise Unreadable(f"the headers of {what} go on after what was captured" if captured else f"{what} is missing")
    return captured[: length + len(_END)]


def _parsed(lines: bytes) -> dict[str, str]:
    try:
        return dict(dpkt.http.parse_headers(io.BytesIO(lines)))
    except dpkt.UnpackError as error:
        raise Unreadable(str(error)) from error


def _content_length(headers: dict[str, str]) -> int:
    try:
        return int(headers.get("content-length", 0))
    except (TypeError, ValueError) as error:  # dpkt makes a list of a header that is there twice
        raise Unreadable(f"content-length is {headers['content-length']!r}") from error


def _body_nbytes(method: str, status: int, headers: dict[str, str]) -> int | None:
    """Return the length of the body on the wire; None where only its end tells."""
    if method == "HEAD" or status in _NO_BODY:
        return 0
    return _content_length(headers) if "content-length" in headers else None


def _end(down: Direction, body_at: int, limit: int | None) -> int:
    """Return where a response without length ends: where the next begins, or with what the server sent last."""
    return limit if limit is not None else max(body_at, down.pieces[-1].end)


def _object_nbytes(status: int, headers: dict[str, str], content: "re.Match[str] | None") -> int | None:
    if content is not None:
        return int(content[3]) if content[3] != "*" else None
    return _content_length(headers) if status == _SUCCESSFUL and "content-length" in headers else None
