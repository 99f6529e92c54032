"""The conductor's end of a worker: start it, ask it, stop it."""

import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from harness.errors import WRONG_DATA, MeasurementError, UnsupportedError, WrongDataError
from harness.machine.environment import sealed
from harness.paths import ROOT
from harness.readers.settings import NOTHING, Given
from harness.readers.worker import PARENT_VARIABLE
from harness.workload.model import Workload

_READ_BYTES = 1 << 16
_STDERR_TAIL_BYTES = 4096
_IS_WRONG = re.compile("(chunk|read) .*is wrong: ")


def failure(reason: str) -> MeasurementError:
    """Return the error that a worker answered; workers in other languages say by these words that data are wrong."""
    wrong = reason.startswith(WRONG_DATA) or _IS_WRONG.match(reason)
    return WrongDataError(reason) if wrong else MeasurementError(reason)


class Program(Protocol):
    """What a worker process runs: a `Reader`'s class, or an arm of a training loop."""

    name: str

    def command(self, environment: Mapping[str, str], /) -> Sequence[str]:
        """Return the command line of a process with these variables."""


class WorkerProcess:
    """A worker's process, blocked on its stdin unless it has been asked something.

    Start it from a thread that outlives it: the kernel kills a worker when the thread that started it ends.

    Parameters
    ----------
    program
        What it runs.
    environment
        Its variables beside those of `harness.machine.environment.sealed`.
    given
        Settings that it keeps until it ends: libraries read some of them once.
    """

    def __init__(
        self,
        program: Program,
        environment: Mapping[str, str] = MappingProxyType({}),
        given: Given = NOTHING,
    ) -> None:
        self._name = program.name
        self.given = given
        self._unread = b""
        # asv waits for every process that holds its pipe, so a worker must never inherit it as stderr.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        own = {**environment, **given.environment, PARENT_VARIABLE: str(os.getpid())}
        whole = {**sealed(), "PYTHONPATH": str(ROOT), **own}
        self._process = subprocess.Popen(
            list(program.command(whole)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            env=whole,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, request: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        """Send one request and return the answer.

        Parameters
        ----------
        request
            An operation of the worker's protocol.
        timeout
            Seconds until a worker that does not answer counts as hanging.

        Raises
        ------
        MeasurementError
            The worker died, hangs or answered something that is not JSON.
        """
        deadline = time.monotonic() + timeout
        try:
            self._pipe_in.write(msgspec.json.encode(request) + b"\n")
            line = self._line(deadline, timeout)
            answer: dict[str, Any] = msgspec.json.decode(line)
        except BrokenPipeError as error:
            raise MeasurementError(self._why_it_ended()) from error
        except msgspec.DecodeError as error:
            raise MeasurementError(f"{self._name}: its worker answered something that is not JSON") from error
        return answer

    def open(self, workload: Workload, *, timeout: float) -> dict[str, Any]:
        """Let it open a workload with its settings and return its answer, as `require` does."""
        request: dict[str, Any] = {"op": "open", "workload": msgspec.to_builtins(workload)}
        if self.given.opening:
            request["settings"] = self.given.opening
        return self.require(request, timeout=timeout)

    def require(self, request: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        """Send one request and return its answer, which is neither an error nor n/a.

        Raises
        ------
        WrongDataError
            The array is not the truth.
        MeasurementError
            The worker failed otherwise, or as `ask` does.
        UnsupportedError
            The reader cannot do this; the message is the reason.
        """
        answer = self.ask(request, timeout=timeout)
        if "error" in answer:
            raise failure(answer["error"])
        if "na" in answer:
            raise UnsupportedError(answer["na"])
        return answer

    @property
    def _pipe_in(self) -> Any:
        return self._process.stdin

    def _line(self, deadline: float, timeout: float) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it was asked for as a pipe
        while b"\n" not in self._unread:
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise MeasurementError(f"{self._name}: no answer within {timeout:.0f} s")
            got = os.read(stdout.fileno(), _READ_BYTES)
            if not got:
                raise MeasurementError(self._why_it_ended())
            self._unread += got
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _why_it_ended(self) -> str:
        code = self._process.wait()
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - _STDERR_TAIL_BYTES))
        words = self._stderr.read().decode(errors="replace").strip().splitlines()
        if code == -signal.SIGKILL:
            words = []  # whatever it said last, it was not of this
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return f"{self._name}: its worker died ({how}){': ' + words[-1] if words else ''}"

    def stop(self) -> None:
        """End the process; a worker has nothing to lose."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()
