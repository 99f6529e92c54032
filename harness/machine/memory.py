"""Memory: what the kernel says of a process's, and whether what is free goes back to the kernel or to a host."""

import ctypes
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_LARGEST = 32 << 20  # the largest threshold for mappings that every version of glibc accepts
_ALL = (1 << 31) - 1
_VIRTIO = Path("/sys/bus/virtio/devices")
_BALLOON, _REPORTING = "0x0005", 5  # virtio 1.2, 5.5: the device, and the bit of VIRTIO_BALLOON_F_PAGE_REPORTING


def status_bytes(pid: int, field: str) -> int | None:
    """Return a size that ``/proc/PID/status`` holds in kB, such as ``VmHWM``, in bytes; None where it is not there."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def is_given_to_host() -> bool:
    """Whether this virtual machine tells its host which pages are free, so that the host takes them back.

    Whoever takes such a page next waits until the host has found and cleared another.
    """
    return any(
        (device / "device").read_text().strip() == _BALLOON and (device / "features").read_text()[_REPORTING] == "1"
        for device in _VIRTIO.glob("*")
    )


def keep_freed() -> None:
    """Let this process keep the memory that it frees, so that the kernel need not clear it for every buffer anew.

    By default glibc takes buffers of some size from the kernel and gives them back when they are freed. Where the C
    library is another, nothing changes.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, _ALL)
