"""The program with which the kernel picks packets: TCP of one port, and of each only the bytes that are needed.

The kernel runs it on every packet of the interface, from the IP header on, and keeps as many bytes as it returns.
"""

import struct
from typing import NamedTuple

REQUEST_BYTES = 8 * 1024
"""Kept of a packet of a request, which may be signed at length."""
HEAD_BYTES = 2 * 1024
"""Kept of a packet that begins with a status line: over loopback much of the body is in it too."""
BODY_BYTES = 256
"""Kept of any other packet of a response: its IP and TCP headers, and the rest of a status line's headers if split."""

WHOLE_BYTES = 256 * 1024
"""Kept of a packet that is wanted whole: more than there can be."""

Instruction = tuple[int, int, int, int]
"""Code, steps to skip if true, if false, and value."""

_IPV4, _IPV6, _TCP = 0x0800, 0x86DD, 6
_SYN_FIN_RST = 0x07
_PROTOCOL = 0xFFFFF000
"""Where the kernel answers the packet's protocol instead of a byte of it."""

_LOAD = {"word": 0x20, "half": 0x28, "byte": 0x30}
_LOAD_AT_X = {"word": 0x40, "half": 0x48, "byte": 0x50}
_LENGTH, _X_IS, _X_IS_IPV4_HEADER, _X_IS_A = 0x80, 0x01, 0xB1, 0x07
_AND, _SHIFT_RIGHT, _ADD_X, _SUBTRACT_X = 0x54, 0x74, 0x0C, 0x1C
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x15, 0x35, 0x45, 0x06


class _Step(NamedTuple):
    code: int
    value: int = 0
    then: str = ""
    """Label to go to where the test holds; empty goes on with the next step."""
    otherwise: str = ""
    label: str = ""


def program(port: int, *, whole: bool = False) -> list[Instruction]:
    """Return the instructions.

    Parameters
    ----------
    port
        TCP port of the server; its own packets are the responses.
    whole
        Keep all of every packet with a payload, since what is encrypted can be read only whole.
    """

    def kept(nbytes: int) -> int:
        return WHOLE_BYTES if whole else nbytes

    steps = [
        _Step(_LOAD["word"], _PROTOCOL),
        _Step(_IF_EQUAL, _IPV4, otherwise="ipv6"),
        _Step(_LOAD["byte"], 9),
        _Step(_IF_EQUAL, _TCP, otherwise="nothing"),
        _Step(_LOAD["half"], 6),
        _Step(_IF_ANY_BIT, 0x1FFF, then="nothing"),  # a later fragment has no TCP header
        _Step(_X_IS_IPV4_HEADER, 0),
        _Step(_IF_EQUAL, 0, then="tcp", otherwise="tcp"),  # goes there in any case
        _Step(_IF_EQUAL, _IPV6, otherwise="nothing", label="ipv6"),
        _Step(_LOAD["byte"], 6),
        _Step(_IF_EQUAL, _TCP, otherwise="nothing"),
        _Step(_X_IS, 40),
        _Step(_LOAD_AT_X["half"], 0, label="tcp"),
        _Step(_IF_EQUAL, port, then="response"),
        _Step(_LOAD_AT_X["half"], 2),
        _Step(_IF_EQUAL, port, otherwise="nothing"),
        *_payload("request"),
        _Step(_IF_EQUAL, 0, then="nothing", otherwise="request_kept"),  # acknowledgements only
        *_payload("response"),
        _Step(_IF_EQUAL, 0, then="nothing"),
        _Step(_IF_AT_LEAST, 4, otherwise="body"),
        _Step(_LOAD_AT_X["word"], 0),
        _Step(_IF_EQUAL, int.from_bytes(b"HTTP"), then="head"),
        _Step(_RETURN, kept(BODY_BYTES), label="body"),
        _Step(_RETURN, kept(HEAD_BYTES), label="head"),
        _Step(_RETURN, kept(REQUEST_BYTES), label="request_kept"),
        _Step(_RETURN, 0, label="nothing"),
    ]
    return _assembled(steps)


def _payload(label: str) -> list[_Step]:
    """Point X at the payload and load its length; connections that begin or end are kept without looking further."""
    return [
        _Step(_LOAD_AT_X["byte"], 13, label=label),
        _Step(_IF_ANY_BIT, _SYN_FIN_RST, then="body"),
        _Step(_LOAD_AT_X["byte"], 12),
        _Step(_AND, 0xF0),
        _Step(_SHIFT_RIGHT, 2),
        _Step(_ADD_X),
        _Step(_X_IS_A),
        _Step(_LENGTH),
        _Step(_SUBTRACT_X),
    ]


def _assembled(steps: list[_Step]) -> list[Instruction]:
    places = {step.label: number for number, step in enumerate(steps) if step.label}

    def skip(label: str, number: int) -> int:
        return places[label] - number - 1 if label else 0

    return [(s.code, skip(s.then, n), skip(s.otherwise, n), s.value) for n, s in enumerate(steps)]


def encoded(instructions: list[Instruction]) -> bytes:
    """Return the instructions as the kernel takes them (``struct sock_filter``)."""
    return b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
