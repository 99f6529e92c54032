"""The processors of this machine."""

import os


def cores() -> int:
    """Return the number of cores this process may use: the decode threads every reader gets."""
    return len(os.sched_getaffinity(0))
