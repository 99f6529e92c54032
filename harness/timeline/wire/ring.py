"""The kernel's side of a capture: packets of one TCP port, written by the kernel into a ring that is mapped here.

The kernel fills the ring block by block and wakes nobody for single packets; a thread copies full blocks away as they
are, and everything else is done after the capture. So what a capture takes from the reader beside it is little.
"""

import ctypes
import mmap
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

from harness.errors import MeasurementError
from harness.timeline.wire import bpf

BLOCK_BYTES = 1 << 20
BLOCKS = 64
"""64 MiB: bodies are cut, so that even at 10 Gbit/s and 1500 bytes a packet it lasts 0.2 s."""

_FRAME_BYTES = 1 << 11  # only has to divide a block: packets of this version of the ring are as long as they are
_RETIRE_MS = 20
_DRAIN_SECONDS = 5.0

# linux/if_packet.h, linux/if_ether.h, asm-generic/socket.h
_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION, _PACKET_IGNORE_OUTGOING = 5, 6, 10, 23
_TPACKET_V3 = 2
_SO_ATTACH_FILTER = 26
_OFFERED = 1
"""Set in a block's status while it belongs to this side."""

_STATUS_OFFSET = 8
_BLOCK = struct.Struct("II II I")
"""Version, offset of private data, status, number of packets, offset of the first."""
_PACKET = struct.Struct("IIIIII HH")
"""Offset of the next packet, seconds, nanoseconds, bytes kept, bytes on the wire, status, offset of the data, ..."""


class Raw(NamedTuple):
    """A packet as the kernel kept it."""

    realtime_ns: int
    data: bytes
    """From the IP header on, cut to what the filter keeps."""
    length: int
    """Bytes it had."""


class PacketRing:
    """A capture of one TCP port on one interface until it is left; `packets` and `dropped` are final after that.

    Packets are cut to what `bpf` keeps of them, unless they are wanted `whole`.

    Raises
    ------
    MeasurementError
        The system refuses the capture, or it does not come to an end.
    """

    def __init__(self, interface: str, port: int, *, loopback: bool, whole: bool = False) -> None:
        self.dropped = 0
        """Packets that found the ring full."""
        self._copied = 0
        self._blocks: list[bytes] = []
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._interface = interface
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            try:
                self._open(port, loopback=loopback, whole=whole)
            except BaseException:
                self._socket.close()
                raise
        except OSError as error:
            raise MeasurementError(f"packets cannot be captured on {interface}: {error.strerror}") from error
        self._thread = threading.Thread(target=self._run, name="packet capture", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._ring.close()
        self._socket.close()
        if self._failure is not None and error is None:
            raise self._failure

    def packets(self) -> Iterator[Raw]:
        """Yield the packets in the order of the ring."""
        for block in self._blocks:
            *_, count, offset = _BLOCK.unpack_from(block)
            for _ in range(count):
                after, seconds, nanoseconds, kept, length, _, begin, _ = _PACKET.unpack_from(block, offset)
                start = offset + begin
                yield Raw(seconds * 10**9 + nanoseconds, block[start : start + kept], length)
                offset += after

    def _open(self, port: int, *, loopback: bool, whole: bool) -> None:
        self._ring = self._mapped()
        self._attach(bpf.program(port, whole=whole))
        # Over loopback each packet is seen leaving and arriving; elsewhere requests leave and responses arrive.
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, int(loopback))
        self._socket.bind((self._interface, _ETH_P_ALL))  # nothing is captured before: the filter is in force

    def _mapped(self) -> mmap.mmap:
        size = BLOCK_BYTES * BLOCKS
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        asked = struct.pack("7I", BLOCK_BYTES, BLOCKS, _FRAME_BYTES, size // _FRAME_BYTES, _RETIRE_MS, 0, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, asked)
        return mmap.mmap(self._socket.fileno(), size)

    def _attach(self, instructions: list[bpf.Instruction]) -> None:
        code = bpf.encoded(instructions)
        kept = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("HP", len(instructions), ctypes.addressof(kept))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def _run(self) -> None:
        try:
            self._copy()
        except Exception as error:  # raised again where the capture is left
            self._failure = error

    def _copy(self) -> None:
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        turn, accepted, deadline = 0, None, 0.0
        while True:
            while self._copy_block(turn % BLOCKS):
                turn += 1
            if self._stopping.is_set():
                if accepted is None:
                    accepted, deadline = self._accepted(), time.monotonic() + _DRAIN_SECONDS
                elif self._copied >= accepted:
                    return
                elif time.monotonic() > deadline:
                    raise MeasurementError(f"the packet capture on {self._interface} does not come to an end")
            ready.poll(_RETIRE_MS)

    def _copy_block(self, number: int) -> bool:
        """Copy a block away and give it back, if it is offered."""
        begin = number * BLOCK_BYTES
        _, _, status, count, _ = _BLOCK.unpack_from(self._ring, begin)
        if not status & _OFFERED:
            return False
        used = struct.unpack_from("I", self._ring, begin + _BLOCK.size)[0]
        self._blocks.append(self._ring[begin : begin + used])
        self._copied += count
        struct.pack_into("I", self._ring, begin + _STATUS_OFFSET, 0)
        return True

    def _accepted(self) -> int:
        """Return how many packets the kernel has put into the ring, and note how many found no room."""
        seen, self.dropped, _ = struct.unpack("3I", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 12))
        return int(seen) - self.dropped
