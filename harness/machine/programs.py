"""Programs that somebody else wrote, run to their end: pip, cargo, another Python."""

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path


def called(
    command: Iterable[str | Path], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it printed; whatever it started ends with it where this call is left early.

    Those have a session of their own, so that one signal reaches all of them: a build's compilers would go on for
    minutes after the command that wanted it was stopped.

    Parameters
    ----------
    environment
        All of its variables; None is this process's.
    """
    with subprocess.Popen(
        list(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as started:
        try:
            out, err = started.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(started.args, started.returncode, out, err)
