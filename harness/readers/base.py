"""What a reader is: a library stack that executes workloads, one file each in this folder."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from harness.errors import UnsupportedError
from harness.results.sample import RequestCounts
from harness.workload.model import Workload, verify

if TYPE_CHECKING:
    from harness.timeline.model import Timeline
T = TypeVar("T")
R = TypeVar("R")


class Reader(ABC):
    """A library stack under test. Subclasses import their libraries in `open`, so that listing readers stays cheap.

    The life of a reader: `open` once, then `read` many times, then `close`. Only `read` is timed.
    """

    name: ClassVar[str]
    """The value asv shows, e.g. ``zarr-python+obstore``."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions belong to its figures."""

    @classmethod
    def command(cls, environment: Mapping[str, str]) -> Sequence[str]:
        """Return the command line of a worker process that speaks the protocol of docs/workload.md.

        Parameters
        ----------
        environment
            The process's variables.
        """
        return [sys.executable, "-m", "harness.readers.worker", cls.name]

    @abstractmethod
    def open(self, workload: Workload) -> None:
        """Open the array of a workload and set the library's knobs; outside the timed part.

        Raises
        ------
        UnsupportedError
            The stack cannot do this workload; the message is the reason.
        """

    @abstractmethod
    def read(self) -> Sequence[Any]:
        """Execute the workload's reads and return one newly allocated array each; this is what is timed."""

    def check(self, workload: Workload, result: Sequence[Any]) -> None:
        """Compare what `read` returned with the truth; a MeasurementError names the first difference."""
        verify(workload, result)

    def variants(self) -> Sequence[str]:
        """Return the ways of doing the work that compete: the conductor tries them and measures the fastest."""
        return ("",)

    def use(self, variant: str) -> None:  # noqa: B027 - most readers have one way
        """Choose the variant that `read` takes from now on."""

    def request_counts(self) -> RequestCounts | None:
        """Return the requests counted since `reset_request_counts`; None where the library cannot count them."""
        return None

    def reset_request_counts(self) -> None:  # noqa: B027 - readers that cannot count have nothing to reset
        """Start counting from zero."""

    def timeline(self) -> tuple["Timeline", Sequence[Any]]:
        """Execute the workload's reads once under a recorder; return the timeline and what `read` returned.

        The conductor fills the timeline's header.

        Raises
        ------
        UnsupportedError
            The library has no hooks; what a packet capture sees is all that can be had.
        """
        raise UnsupportedError("this library has no hooks for a timeline")

    def calls(self, workload: Workload) -> int:
        """Return how many calls of the library's API the workload takes."""
        return len(workload.reads)

    def close(self) -> None:  # noqa: B027 - most readers hold nothing
        """Release connections."""

    @classmethod
    def versions(cls) -> dict[str, str]:
        """Return the installed versions of `packages`."""
        found = {}
        for package in cls.packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        return found


class Turns:
    """Calls of a synchronous library, at most so many under way at once: threads, as a user would take.

    Parameters
    ----------
    at_once
        1 calls one after another in the caller's thread.
    """

    def __init__(self, at_once: int) -> None:
        self._threads = ThreadPoolExecutor(at_once) if at_once > 1 else None

    def each(self, call: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return the result of `call` for every item, in order; calls start in order."""
        return list(map(call, items)) if self._threads is None else list(self._threads.map(call, items))

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()
