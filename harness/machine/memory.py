"""A process's memory: what the kernel says of it, and whether what is freed goes back to the kernel."""

import ctypes
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_LARGEST = 32 << 20  # the largest threshold for mappings that every version of glibc accepts
_ALL = (1 << 31) - 1


def status_bytes(pid: int, field: str) -> int | None:
    """Return a size that ``/proc/PID/status`` holds in kB, such as ``VmHWM``, in bytes; None where it is not there."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def keep_freed() -> None:
    """Let this process keep the memory that it frees, so that the kernel need not clear it for every buffer anew.

    By default glibc takes buffers of some size from the kernel and gives them back when they are freed. Where the C
    library is another, nothing changes.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, _ALL)
