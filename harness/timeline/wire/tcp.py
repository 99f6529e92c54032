"""TCP connections put together again: which byte of a direction arrived when, whatever the order of the packets."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.timeline.wire.packets import Segment

_WRAP = 2**32


class Unreadable(Exception):  # noqa: N818 - a finding about what was captured, not an error of the program
    """Something captured that cannot be followed; the text says why."""


class Piece(NamedTuple):
    """Neighbouring bytes of one direction that first arrived in one packet."""

    begin: int
    end: int
    stamp_ns: int
    data: bytes
    """The first of its bytes; not all where the capture cut the packet."""
    ack: int
    """Position up to which its sender had received the other direction."""


class Positions:
    """Sequence numbers of one direction, which wrap at 4 GiB, as positions that do not."""

    def __init__(self) -> None:
        self._last: int | None = None

    def of(self, number: int) -> int:
        """Return the position of a sequence number: the one nearest to the position asked for before."""
        if self._last is None:
            self._last = number
        else:
            self._last += (number - self._last + _WRAP // 2) % _WRAP - _WRAP // 2
        return self._last


class Direction:
    """The bytes of one direction of a connection; of bytes sent several times the first copy counts."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        """In the order of their positions, without overlap; a gap is what the capture did not see."""

    def add(self, piece: Piece) -> None:
        """Add what a packet brought, packet by packet in the order of their arrival."""
        at = bisect_right(self.pieces, piece.begin, key=lambda p: p.begin)
        if at and self.pieces[at - 1].end > piece.begin:
            piece = _cut(piece, self.pieces[at - 1].end)
        while piece.begin < piece.end:
            following = self.pieces[at] if at < len(self.pieces) else None
            end = piece.end if following is None else min(piece.end, following.begin)
            if end > piece.begin:
                self.pieces.insert(at, piece._replace(end=end, data=piece.data[: end - piece.begin]))
                at += 1
            if following is None:
                return
            piece = _cut(piece, following.end)
            at += 1

    def between(self, begin: int, end: int) -> list[Piece] | None:
        """Return the pieces that hold the bytes from `begin` up to `end`; None when some are missing."""
        found, reached = [], begin
        for piece in self.following(begin):
            if reached >= end or piece.begin > reached:
                break
            found.append(piece)
            reached = piece.end
        return found if reached >= end else None

    def captured(self, begin: int) -> bytes:
        """Return the bytes from `begin` on as far as they were captured without a gap."""
        whole = bytearray()
        for piece in self.following(begin):
            at = begin + len(whole)
            if piece.begin > at:
                break
            data = piece.data[at - piece.begin :]
            whole += data
            if at + len(data) < piece.end:
                break
            if b"\r\n\r\n" in whole:  # nobody asks for more than headers
                break
        return bytes(whole)

    def following(self, begin: int) -> Iterable[Piece]:
        """Yield the pieces from the one that holds `begin`, or the next, on."""
        at = bisect_right(self.pieces, begin, key=lambda p: p.end)
        for number in range(at, len(self.pieces)):
            yield self.pieces[number]


class Connection:
    """One TCP connection, or what the capture saw of it."""

    def __init__(self, client: tuple[str, int]) -> None:
        self.client = client
        self.up = Direction()
        self.down = Direction()
        self._up = Positions()
        self._down = Positions()

    @property
    def name(self) -> str:
        """Address and port of the client."""
        return "{}:{}".format(*self.client)

    def add(self, segment: Segment) -> None:
        """Add a segment, in the order of their stamps."""
        ours, theirs = (self._up, self._down) if segment.from_client else (self._down, self._up)
        begin = ours.of(segment.seq) + segment.syn
        ack = 0 if segment.ack is None else theirs.of(segment.ack)
        if segment.length > 0:
            direction = self.up if segment.from_client else self.down
            direction.add(Piece(begin, begin + segment.length, segment.stamp_ns, segment.data, ack))


def connections(segments: Iterable[Segment]) -> list[Connection]:
    """Return the connections of a capture in the order they were first seen; a port that is used again is another."""
    found: list[Connection] = []
    current: dict[tuple[str, int], Connection] = {}
    for segment in sorted(segments, key=lambda s: s.stamp_ns):
        is_first = segment.syn and segment.from_client
        known = current.get(segment.client)
        # A repeated SYN opens nothing: until there was data it is the same connection.
        if known is None or (is_first and (known.up.pieces or known.down.pieces)):
            known = current[segment.client] = Connection(segment.client)
            found.append(known)
        known.add(segment)
    return found


def in_order(pieces: Sequence[Piece]) -> list[int]:
    """Return when each piece and all before it had arrived: a receiver gets bytes in order only."""
    latest, found = pieces[0].stamp_ns, []
    for piece in pieces:
        latest = max(latest, piece.stamp_ns)
        found.append(latest)
    return found


def _cut(piece: Piece, begin: int) -> Piece:
    """Return the piece without what lies before `begin`."""
    begin = max(begin, piece.begin)
    return piece._replace(begin=min(begin, piece.end), data=piece.data[begin - piece.begin :])
