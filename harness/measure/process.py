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
from harness.results.sample import Timed
from harness.workload.model import Workload

_READ_BYTES = 1 << 16
_LONGEST_ANSWER = 1 << 30
"""Bytes of a line: a timeline has some 400 for each chunk."""
_LEAVING_SECONDS = 5.0
"""For a worker that says no more to end by itself."""
_STDERR_TAIL_BYTES = 4096
_IS_WRONG = re.compile("(chunk|read|window) .*is wrong: ")


def failure(reason: str) -> MeasurementError:
    """Return the error that a worker answered; workers in other languages say by these words that data are wrong."""
    wrong = reason.startswith(WRONG_DATA) or _IS_WRONG.match(reason)
    return WrongDataError(reason) if wrong else MeasurementError(reason)


def told[T](answer: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """Return a field of a worker's answer; a MeasurementError says that it is missing, or something else."""
    try:
        return msgspec.convert(answer[name], kind)
    except (KeyError, msgspec.ValidationError) as error:
        what = "missing" if isinstance(error, KeyError) else str(error)
        raise MeasurementError(f"the worker answered without a valid {name!r}: {what}") from error


def verified(answer: Mapping[str, Any]) -> Timed:
    """Return what a worker says of an execution whose arrays were compared with the truth.

    Raises
    ------
    MeasurementError
        It says nothing of the kind, or had nothing to compare them with.
    """
    timed = told(answer, "timed", Timed)
    if not timed.verified:
        raise MeasurementError("its arrays were compared with nothing: the workload has no truth")
    return timed


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
        self._unread = bytearray()
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
        os.set_blocking(self._pipe_in.fileno(), False)  # a worker that does not read must not outlast its deadline

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
            The worker died, hangs or answered something that is no JSON object, or not one line.
        """
        deadline = time.monotonic() + timeout
        try:
            self._demand_silence()
            self._send(msgspec.json.encode(request) + b"\n", deadline, timeout)
            answer: dict[str, Any] = msgspec.json.decode(self._line(deadline, timeout), type=dict[str, Any])
        except BrokenPipeError as error:
            raise MeasurementError(self._why_it_ended()) from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise MeasurementError(
                f"{self._name}: its worker answered something that is not JSON, or not an object"
            ) from error
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
            raise failure(str(answer["error"]))
        if "na" in answer:
            raise UnsupportedError(str(answer["na"]))
        return answer

    @property
    def _pipe_in(self) -> Any:
        return self._process.stdin

    @property
    def _pipe_out(self) -> Any:
        return self._process.stdout

    def _send(self, line: bytes, deadline: float, timeout: float) -> None:
        while line:
            _, ready, _ = select.select([], [self._pipe_in], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise self._silent(timeout)
            line = line[os.write(self._pipe_in.fileno(), line) :]

    def _demand_silence(self) -> None:
        """Refuse a worker that said more than was asked: what it says next would be taken for another answer."""
        if self._unread or select.select([self._pipe_out], [], [], 0)[0]:
            if not self._unread and not self._read():
                raise MeasurementError(self._why_it_ended())
            raise MeasurementError(f"{self._name}: its worker said something that it was not asked")

    def _line(self, deadline: float, timeout: float) -> bytes:
        seen = 0
        while (end := self._unread.find(b"\n", seen)) < 0:
            seen = len(self._unread)
            if seen > _LONGEST_ANSWER:
                raise MeasurementError(f"{self._name}: its worker's answer has more than {_LONGEST_ANSWER} bytes")
            if not select.select([self._pipe_out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise self._silent(timeout)
            if not self._read():
                raise MeasurementError(self._why_it_ended())
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        return line

    def _read(self) -> bool:
        """Take what has come; False where the worker has ended."""
        got = os.read(self._pipe_out.fileno(), _READ_BYTES)
        self._unread += got
        return bool(got)

    def _silent(self, timeout: float) -> MeasurementError:
        return MeasurementError(f"{self._name}: no answer within {timeout:.0f} s")

    def _why_it_ended(self) -> str:
        try:
            code = self._process.wait(_LEAVING_SECONDS)
        except subprocess.TimeoutExpired:
            return f"{self._name}: its worker closed its stdout and went on"
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
