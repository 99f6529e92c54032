"""What the kernel says of a process's memory."""

from pathlib import Path


def status_bytes(pid: int, field: str) -> int | None:
    """Return a size that ``/proc/PID/status`` holds in kB, such as ``VmHWM``, in bytes; None where it is not there."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None
