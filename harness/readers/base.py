"""What a reader is: a library stack that executes workloads, one file each in this folder.

Listing the readers imports all of their files, and asv does that in a process per combination of parameters. So a
reader's file imports its libraries, numpy and what of harness needs them where they are used.
"""

from __future__ import annotations

import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from json import JSONDecodeError
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from harness.errors import UnsupportedError
from harness.readers.settings import Setting, Value, check
from harness.results.sample import RequestCounts

if TYPE_CHECKING:
    from harness.targets.target import Target
    from harness.timeline.model import Timeline
    from harness.workload.model import Workload

PYTHON_VARIABLE = "ZCB_WORKER_PYTHON"
"""Environment variable with the program that runs a worker in Python, in the place of this process's own."""

GLOBAL_LOCK = "GIL"
"""Among a reader's versions, where its Python was built without a global lock: ``on`` or ``off``."""

ZARR_PYTHON = "zarr-python"
"""The decoder that most of what is under test is about."""

T = TypeVar("T")
R = TypeVar("R")


def python_of(environment: Mapping[str, str]) -> str:
    """Return the Python that runs a process with these variables."""
    return environment.get(PYTHON_VARIABLE, sys.executable)


class Reader(ABC):
    """A library stack under test, and what it can do: benchmarks, commands, tables and tests ask its class.

    The life of a reader: `open` once, then `read` many times, then `close`. Only `read` is timed.
    """

    name: ClassVar[str]
    """The value asv shows, e.g. ``zarr-python+obstore``."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions belong to its figures; with what they depend on, all that its process may import."""
    crates: ClassVar[tuple[str, ...]] = ()
    """Rust crates of our own build that it reads with, which a comparison can replace."""
    rank: ClassVar[int] = 1000
    """Its place among the readers in benchmarks and tables; equals stand by name."""
    layer_over: ClassVar[str | None] = None
    """The reader that it adds a layer to: a full job measures it as any other, a quick one and its answer leave it out.
    """
    stored_as: ClassVar[str | None] = None
    """The store of another kind that it reads beside the array, which ``zcb data create --as`` writes; None reads the
    array itself."""
    competes_for: ClassVar[str | None] = None
    """The row that its samples go to where it is the fastest client for it; None where it has a row of its own."""
    decoder: ClassVar[str | None] = None
    """What decodes chunks, e.g. `ZARR_PYTHON`: readers with different ones are independent of each other."""
    client: ClassVar[str | None] = None
    """What fetches for it, where it represents its decoder."""
    represents: ClassVar[int | None] = None
    """Place among those that stand for their decoder, 1 first: where the truth of an array without a manifest is asked
    for, and where versions are compared and no reader is named. None is not asked."""
    is_python: ClassVar[bool] = True
    """Whether it runs in a Python process; else `command` starts a program."""
    is_control: ClassVar[bool] = False
    """Whether its figures tell of the machine: nothing of it changes with the commit under test."""
    counts_requests: ClassVar[bool] = False
    """Whether it counts its own requests; else the store counts them."""
    strides: ClassVar[bool] = True
    """Whether a selection with steps is one call; else it is a call per chunk."""
    reads_one: ClassVar[bool] = False
    """Whether single reads of a workload can be asked for (`read_one`), so that it is an arm of a training loop."""
    records_timelines: ClassVar[bool] = False
    """Whether it has hooks for a timeline; else a packet capture sees its requests."""
    unread: ClassVar[Mapping[str, str]] = {}
    """Schemes of URLs that it cannot read -> what it would need."""
    only_own_address: ClassVar[frozenset[str]] = frozenset()
    """Schemes that it reads at the cloud's own address only, not at a target's `endpoint`."""
    requester_pays: ClassVar[bool] = True
    """Whether it reads an S3 bucket that charges whoever reads it."""
    settings: ClassVar[tuple[Setting, ...]] = ()
    """What `zcb tune` may set beside what its documentation tells a newcomer; none cannot be tuned."""
    tuned_of: ClassVar[str | None] = None
    """The reader that it is with settings of a search; None is one as its documentation tells (`tuned`)."""
    main_of: ClassVar[str | None] = None
    """The reader that it is with its crates' main branch in the place of their release; None has the release
    (`with_main`)."""
    holds_back: ClassVar[str | None] = None
    """Why it can have fewer requests in flight than it may, whatever its settings: by the library's source, as
    docs/readers.md shows. None where nothing is known to."""
    assumes_metadata: ClassVar[bool] = False
    """Whether its library takes an array's metadata from its caller, by public means (`assumed`)."""
    assumed: Mapping[str, Any] | None = None
    """An array's metadata in the place of those that are stored, given before `open`: for a truth, never measured."""
    chosen: Mapping[str, Value] = MappingProxyType({})
    """The settings that were chosen for it, by name."""

    @classmethod
    def command(cls, environment: Mapping[str, str]) -> Sequence[str]:
        """Return the command line of a worker process that speaks the protocol of docs/workload.md.

        Parameters
        ----------
        environment
            The process's variables.
        """
        return [python_of(environment), "-m", "harness.readers.worker", cls.name]

    @classmethod
    def uses_zarr_python(cls) -> bool:
        """Whether it reads with zarr-python, so that its figures can change with the commit of it under test."""
        return "zarr" in cls.packages

    @classmethod
    def counts_alone(cls, target: Target) -> bool:
        """Whether its count holds where no store counts: taken request by request, below retries and redirects."""
        return False

    def choose(self, settings: Mapping[str, Value]) -> None:
        """Take settings other than its documentation's, before `open`; a BadUseError names one that it has not."""
        check(self.settings, settings)
        self.chosen = settings

    def chosen_of(self, place: str) -> dict[str, Value]:
        """Return the chosen settings that are given at one place, as `Setting.of` calls it."""
        return {one.name: self.chosen[one.name] for one in self.settings if one.of == place and one.name in self.chosen}

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

    def read_one(self, number: int) -> Any:
        """Execute one of the workload's reads, from any thread: what a training loop asks for each sample.

        Parameters
        ----------
        number
            Of the read, from 0.
        """
        raise UnsupportedError("it executes whole workloads only")

    def keep_indexes(self) -> None:
        """Let the array that `open` opens keep shard indexes from one read to the next, by the library's public means.

        Raises
        ------
        UnsupportedError
            It has none; the message says why.
        """
        raise UnsupportedError("it has no public way to keep shard indexes and nothing else between reads")

    def select(self, workload: Workload) -> None:
        """Take the reads of another workload on the array that is open, as a cold execution does; connections stay."""
        raise UnsupportedError("it cannot be told of other reads while its array is open")

    def check(self, workload: Workload, result: Sequence[Any], *, first: int = 0) -> None:
        """Compare what `read` returned with the truth; a WrongDataError names the first difference.

        Parameters
        ----------
        first
            Number of the first read: of a stream's step, of its first window.
        """
        from harness.workload.model import verify

        verify(workload, result, first=first)

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

    def timeline(self) -> tuple[Timeline, Sequence[Any]]:
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
        from importlib.metadata import PackageNotFoundError, version

        found = {}
        for package in cls.packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        return found


@contextlib.contextmanager
def refusals(library: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn the errors by which a library says that it cannot read an array into an UnsupportedError with its words.

    What is missing (a FileNotFoundError) and what is no JSON at all is no refusal, whatever else these errors are.
    """
    try:
        yield
    except errors as error:
        if isinstance(error, FileNotFoundError | JSONDecodeError):
            raise
        said = " ".join(str(error if str(error) else error.__cause__ or "").split())[:400]
        raise UnsupportedError(f"{library} cannot read this array: {type(error).__name__}: {said}") from error


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
