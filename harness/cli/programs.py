"""Programs that a command runs: what they print goes to a log, and a failure is told by its last line."""

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import BadUseError, MeasurementError, StoreError, ZcbError
from harness.machine.log import reason_in
from harness.targets.target import EMBEDDED

ASV_ROWS_FAILED = 2
"""asv's exit code where it measured, and some rows failed."""

_ERRORS: dict[int, type[ZcbError]] = {error.exit_code: error for error in (BadUseError, StoreError)}


class Programs:
    """Runs programs one after another, with one log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def started(
        self, command: Sequence[str], variables: Mapping[str, str] | None = None, stdout: int | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program beside the block, by default with stdout in the log; it ends with the block at the latest."""
        with self.log.open("ab") as log:
            log.write(f"\n$ {shlex.join(command)}\n".encode())
            log.flush()
            environment = os.environ | (variables or {})
            with subprocess.Popen(
                command, stdout=log if stdout is None else stdout, stderr=log, stdin=subprocess.DEVNULL, env=environment
            ) as started:
                try:
                    yield started
                except BaseException:
                    started.terminate()
                    raise

    def call(self, command: Sequence[str]) -> None:
        """Run a program to its end; the errors are those of `demand`."""
        with self.started(command) as running:
            running.wait()
        self.demand(running.returncode)

    def write_data(self, preset: str, *besides: str) -> None:
        """Write what benchmarks read into the embedded store: two data sets of a preset, and the headline's.

        Parameters
        ----------
        besides
            Further options of ``zcb data create``.
        """
        create = ("data", "create", "--target", EMBEDDED, *besides, "--preset")
        self.call(zcb(*create, preset, "--dataset", "small", "--dataset", "large"))
        self.call(zcb(*create, "headline"))

    def answer(self, command: Sequence[str], variables: Mapping[str, str]) -> bytes:
        """Return what a program of ours prints to stdout, which it does whatever its answer is.

        Raises
        ------
        ZcbError
            It printed nothing; the errors are those of `demand`.
        """
        with self.started(command, variables, stdout=subprocess.PIPE) as running:
            said, _ = running.communicate()
        if not said:
            self.demand(running.returncode)
        return said

    def demand(self, code: int) -> None:
        """Raise a ZcbError unless a program's exit code is 0: it says why the program failed, with that exit code."""
        if code:
            raise _ERRORS.get(code, MeasurementError)(f"{self.last_line()} (all of it: {self.log})")

    def last_line(self) -> str:
        """Return what the newest program said last."""
        return reason_in(self.log.read_text(errors="replace").rpartition("\n$ ")[2])


def zcb(*arguments: str) -> list[str]:
    """Return the command that runs ``zcb`` with these arguments."""
    return [program("zcb"), *arguments]


def program(name: str) -> str:
    """Return the path of a program of this environment."""
    return str(Path(sys.prefix) / "bin" / name)
