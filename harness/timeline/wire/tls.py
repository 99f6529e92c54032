"""TLS 1.3 on captured connections, opened by a key log: what each record carried, and when it could be read.

Nothing of a record can be read before all of it is there, since its tag stands at its end: its bytes arrive with the
packet that ends it.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise, takewhile
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from harness.timeline.wire.bpf import HEAD_BYTES, REQUEST_BYTES
from harness.timeline.wire.tcp import Connection, Direction, Piece, Unreadable, in_order

Secrets = Mapping[str, bytes]
"""A connection's secrets by their labels."""

_HEADER_BYTES = 5
_HANDSHAKE, _APPLICATION_DATA = 22, 23
_CLIENT_HELLO, _SERVER_HELLO, _KEY_UPDATE = 1, 2, 24
_RANDOM = slice(6, 38)
"""Of a hello: after its type, its length and its version."""
_PHASES = ("HANDSHAKE_TRAFFIC_SECRET", "TRAFFIC_SECRET_0")
_IV_BYTES = 12
_ALERT_BYTES = 19
"""Of an encrypted record that ends a connection, tag and kind included: shorter than any request."""


class _Suite(NamedTuple):
    cipher: type[AESGCM | ChaCha20Poly1305]
    key_bytes: int
    hash: type[HashAlgorithm]


_SUITES = {
    0x1301: _Suite(AESGCM, 16, SHA256),
    0x1302: _Suite(AESGCM, 32, SHA384),
    0x1303: _Suite(ChaCha20Poly1305, 32, SHA256),
}
"""TLS 1.3's suites by their numbers, RFC 8446 B.4."""


class _Record(NamedTuple):
    kind: int
    header: bytes
    payload: bytes
    end: int
    """Position in the direction."""
    stamp_ns: int
    """When its last byte, and all before it, had arrived."""
    ack: int
    """Of the packet with its first byte."""


class _Carried(NamedTuple):
    """Bytes of the application in a record."""

    end: int
    """The record's."""
    stamp_ns: int
    ack: int
    length: int
    data: bytes
    """The first of them."""


def read_key_log(path: Path) -> dict[bytes, dict[str, bytes]]:
    """Return what a key log holds (NSS key log format): secrets by label, by the client's random of the connection.

    Raises
    ------
    OSError
        It cannot be read.
    """
    found: dict[bytes, dict[str, bytes]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        label, random, secret = line.split()
        found.setdefault(bytes.fromhex(random), {})[label] = bytes.fromhex(secret)
    return found


def opened(connection: Connection, log: Mapping[bytes, Secrets]) -> Connection:
    """Return a connection as if it had been plain: its pieces are what TLS records carried, cut as a capture cuts them.

    Parameters
    ----------
    connection
        Captured whole, from its beginning on.
    log
        Secrets by the client's random, as `read_key_log` returns them.

    Raises
    ------
    Unreadable
        It is no TLS 1.3, its secrets are not known, or packets are missing.
    """
    plain = Connection(connection.client)
    if not any(_may_ask(record) for record in _records(connection.up)):
        return plain  # closed, or still waiting: nothing was asked
    secrets = log.get(_hello(connection.up, _CLIENT_HELLO)[_RANDOM])
    if secrets is None:
        raise Unreadable("its secrets are not in the key log")
    suite = _suite(_hello(connection.down, _SERVER_HELLO))
    sent = list(_carried(connection.up, _openers(secrets, "CLIENT", suite), REQUEST_BYTES))
    received = list(_carried(connection.down, _openers(secrets, "SERVER", suite), HEAD_BYTES))
    _fill(plain.up, sent, received)
    _fill(plain.down, received, sent)
    return plain


def _records(direction: Direction) -> Iterator[_Record]:
    """Yield the records of a direction; one that the capture's end cut off is left out."""
    pieces = direction.pieces
    if any(one.end != following.begin for one, following in pairwise(pieces)):
        raise Unreadable("packets are missing")
    if any(len(piece.data) != piece.end - piece.begin for piece in pieces):
        raise Unreadable("its packets were not captured whole")
    stream = b"".join(piece.data for piece in pieces)
    ends, stamps = [piece.end for piece in pieces], in_order(pieces) if pieces else []
    first, at = pieces[0].begin if pieces else 0, 0
    while len(stream) - at >= _HEADER_BYTES:
        begin, header = at, stream[at : at + _HEADER_BYTES]
        kind, version, length = struct.unpack(">BHH", header)
        if version >> 8 != 3:  # of every version since SSL 3
            raise Unreadable("what was sent is no TLS, or the connection began before the capture")
        at += _HEADER_BYTES + length
        if at > len(stream):
            return
        stamp = stamps[bisect_right(ends, first + at - 1)]
        ack = pieces[bisect_right(ends, first + begin)].ack
        yield _Record(kind, header, stream[begin + _HEADER_BYTES : at], first + at, stamp, ack)


def _may_ask(record: _Record) -> bool:
    return record.kind == _APPLICATION_DATA and len(record.payload) > _ALERT_BYTES


def _hello(direction: Direction, kind: int) -> bytes:
    """Return the last hello of a kind: a server that wants another key share says it twice."""
    greeting = takewhile(lambda record: record.kind != _APPLICATION_DATA, _records(direction))
    found = [r.payload for r in greeting if r.kind == _HANDSHAKE and r.payload[:1] == bytes([kind])]
    if not found:
        raise Unreadable("it began before the capture")
    return found[-1]


def _suite(server_hello: bytes) -> _Suite:
    after_random = _RANDOM.stop + 1 + server_hello[_RANDOM.stop]  # past the session's id
    number = int.from_bytes(server_hello[after_random : after_random + 2])
    if number not in _SUITES:
        raise Unreadable(f"cipher suite {number:#06x}: only TLS 1.3 is followed")
    return _SUITES[number]


def _openers(secrets: Secrets, side: str, suite: _Suite) -> list["_Opener"]:
    return [_Opener(secrets, f"{side}_{phase}", suite) for phase in _PHASES]


def _carried(direction: Direction, openers: list["_Opener"], keep: int) -> Iterator[_Carried]:
    """Yield what records carried for the application, of each the first `keep` bytes.

    The first record that the handshake's key does not open is the first by the key of the application.
    """
    for record in _records(direction):
        if record.kind != _APPLICATION_DATA:
            continue
        while (inner := openers[0](record)) is None:
            openers.pop(0)
            if not openers:
                raise Unreadable("a record cannot be opened by the key log")
        padded = inner.rstrip(b"\0")  # its last byte is the true kind
        kind, content = padded[-1], padded[:-1]
        if kind == _HANDSHAKE and content[0] == _KEY_UPDATE:
            raise Unreadable("its keys are changed on the way, which is not followed")
        if kind == _APPLICATION_DATA and content:
            yield _Carried(record.end, record.stamp_ns, record.ack, len(content), content[:keep])


class _Opener:
    """Opens the records of one key, in their order."""

    def __init__(self, secrets: Secrets, label: str, suite: _Suite) -> None:
        if label not in secrets:
            raise Unreadable(f"the key log lacks its {label}")
        self._cipher = suite.cipher(_expanded(secrets[label], "key", suite.key_bytes, suite))
        self._iv = int.from_bytes(_expanded(secrets[label], "iv", _IV_BYTES, suite))
        self._number = 0

    def __call__(self, record: _Record) -> bytes | None:
        """Return what a record holds; None where it is of another key."""
        nonce = (self._iv ^ self._number).to_bytes(_IV_BYTES)
        try:
            inner = self._cipher.decrypt(nonce, record.payload, record.header)
        except InvalidTag:
            return None
        self._number += 1
        return inner


def _expanded(secret: bytes, purpose: str, length: int, suite: _Suite) -> bytes:
    """Return HKDF-Expand-Label of RFC 8446, 7.1, without context."""
    label = b"tls13 " + purpose.encode()
    info = struct.pack(">HB", length, len(label)) + label + b"\0"
    return HKDFExpand(suite.hash(), length, info).derive(secret)


def _fill(direction: Direction, ours: list[_Carried], theirs: list[_Carried]) -> None:
    """Add what records carried, at positions that count these bytes alone."""
    ends, positions = [one.end for one in theirs], [0, *accumulate(one.length for one in theirs)]
    at = 0
    for one in ours:
        ack = positions[bisect_right(ends, one.ack)]
        direction.pieces.append(Piece(at, at + one.length, one.stamp_ns, one.data, ack))
        at += one.length
