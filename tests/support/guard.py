"""Ends what a killed test run leaves behind: ``guard.py PID DIRECTORY`` waits for the process and then looks for it.

A store outlives the command that started it, as it should for a user, so no fixture can promise to end one: a run that
is killed has no fixtures any more. Whatever a run starts is told of a directory of that run by its environment or, the
store, by its ``--root``, and by that it is known.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_SHELLS_OWN = (b"PWD", b"OLDPWD")  # where a person stands says nothing of what started their programs
_QUIET_S = 0.5
_AT_MOST_S = 30.0


def start(directory: Path) -> None:
    """Let a guard end everything of `directory` once this process has ended, however it does."""
    subprocess.Popen(
        [sys.executable, "-S", __file__, str(os.getpid()), str(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is for the run
        env={"PATH": os.environ["PATH"]},
    )


def left_of(directory: Path) -> Iterator[int]:
    """Yield the processes, other than this one, that were started with a file or folder below `directory`."""
    below = os.fsencode(directory) + b"/"
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                environment = [variable.partition(b"=") for variable in _strings(entry / "environ")]
                told = any(value.startswith(below) for name, _, value in environment if name not in _SHELLS_OWN)
                if told or any(argument.startswith(b"--root=" + below) for argument in _strings(entry / "cmdline")):
                    yield int(entry.name)


def _strings(file: Path) -> list[bytes]:
    return file.read_bytes().split(b"\0")


def _wait_for(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(handle, select.POLLIN)  # readable when the process has ended
    poll.poll()
    os.close(handle)


def _end(directory: Path) -> None:
    """Kill what is left until nothing is, since what is killed may just have started something."""
    now = time.monotonic()
    seen, give_up = now, now + _AT_MOST_S
    while time.monotonic() < min(seen + _QUIET_S, give_up):
        for pid in left_of(directory):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            seen = time.monotonic()
        time.sleep(0.05)


if __name__ == "__main__":
    _wait_for(int(sys.argv[1]))
    _end(Path(sys.argv[2]))
