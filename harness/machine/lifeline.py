"""Processes that end with the one that started them, however that one ends."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    A process that starts others and is killed cannot clean up after itself, so each one looks after itself instead.
    The wish is not inherited: every process has to ask.

    Parameters
    ----------
    parent
        Process id of the expected parent; if that is gone already, this process ends at once.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)
