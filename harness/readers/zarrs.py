"""zarrs, in Rust: processes of their own that speak the worker's protocol (docs/zarrs-reader.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, override

from harness.errors import UnsupportedError
from harness.machine.rust import ZARRS_READER
from harness.paths import state_dir
from harness.readers.base import Reader
from harness.readers.settings import CALLS, CORES, IN_FLIGHT, TOKIO_THREADS, Setting
from harness.results.sample import NETWORK_LIMIT, THROWN_AWAY

if TYPE_CHECKING:
    from harness.targets.target import Target
    from harness.workload.model import Workload

BINARY_VARIABLE = "ZCB_ZARRS_READER"
"""Environment variable with another build of the Rust reader, as a comparison of crates needs."""

CODEC_OPTIONS = "CodecOptions"
"""Where settings of zarrs are given, call by call."""

ZARRS_OPTIONS = (
    Setting(
        name="chunk_concurrent_minimum",
        of=CODEC_OPTIONS,
        default="4",
        values=(16, IN_FLIGHT),
        meaning="Shards of a call under way at once, before the concurrency left is given to the chunks inside them.",
    ),
    Setting(
        name="concurrent_target",
        of=CODEC_OPTIONS,
        default=IN_FLIGHT,
        values=(CORES,),
        meaning="Concurrency of a call, shared out among shards and the chunks inside them.",
    ),
    Setting(
        name="task_per_shard",
        of=CALLS,
        default="False",
        values=(True,),
        meaning="Whether each shard of a box is a call of its own.",
    ),
)
"""Of zarrs, whatever the language that it is called from."""

HOLDS_BACK = (
    "zarrs has `chunk_concurrent_minimum` shards of a call under way (4 unless it is set), and asks for a shard's size "
    "before each partial read"
)


def built_with_main() -> Path:
    """Return where the reader is, or will be, that is built from our sources as they are with zarrs' main branch."""
    return state_dir() / "crates" / f"main-{ZARRS_READER.digest()}" / ZARRS_READER.crate


class _RustReader(Reader):
    """Describes a worker process in Rust; nothing of it runs in a Python process.

    Its requests are counted below object_store's retries, but above the redirects that the HTTP client follows.
    """

    engine: ClassVar[str]
    is_python = False
    counts_requests = True

    @classmethod
    @override
    def command(cls, environment: Mapping[str, str]) -> Sequence[str]:
        return [cls._program(environment), "worker", "--engine", cls.engine]

    @classmethod
    def _program(cls, environment: Mapping[str, str]) -> str:
        if cls.main_of is not None:
            program = built_with_main()
            if not program.is_file():
                raise UnsupportedError("not built with zarrs' main branch: `zcb crates` does that (minutes, once)")
            return str(program)
        other = environment.get(BINARY_VARIABLE)
        if other is None and not ZARRS_READER.is_built():
            raise UnsupportedError(ZARRS_READER.absence())
        return other or str(ZARRS_READER.path)

    @override
    def open(self, workload: Workload) -> None:
        raise UnsupportedError("a process of its own: asv cannot time it in a Python process")

    @override
    def read(self) -> Sequence[Any]:
        raise UnsupportedError("a process of its own: asv cannot time it in a Python process")


class Zarrs(_RustReader):
    """zarrs' public async API as its documentation tells a user to write it."""

    name = "zarrs"
    engine = "stock"
    crates = ("zarrs",)
    rank = 70
    decoder = "zarrs"
    strides = False
    reads_one = True
    records_timelines = True
    settings = (
        *ZARRS_OPTIONS,
        Setting(
            name="shard_cache",
            of=CALLS,
            default="read",
            values=("shard", "none"),
            meaning="Who shares a cache of shard indexes, which ends with the read: all of its calls, those for a "
            "shard, or nobody.",
        ),
        Setting(
            name="sync_threads",
            of=CALLS,
            default="none: its asynchronous API",
            values=(CORES, 16, IN_FLIGHT),
            meaning="Threads from which its synchronous API is called instead, each of which a request blocks.",
        ),
        TOKIO_THREADS,
    )
    holds_back = HOLDS_BACK


class ZarrsPlanned(_RustReader):
    """zarrs' codecs under our own I/O plan: what is possible."""

    name = "zarrs-planned"
    engine = "planned"
    crates = ("zarrs",)
    rank = 80
    decoder = "zarrs"
    is_control = True
    reads_one = True
    records_timelines = True


class NetworkLimitRust(_RustReader):
    """A client in Rust fetching what the network limit fetches: competes with obstore's for it."""

    name = "network-limit+rust"
    engine = "network-limit"
    competes_for = NETWORK_LIMIT

    @classmethod
    @override
    def counts_alone(cls, target: Target) -> bool:
        """Of plain HTTP without credentials, where its count was held against other servers' (test_counts.py)."""
        return target.anonymous and not target.is_encrypted


class NetworkLimitThrownAway(NetworkLimitRust):
    """The same, whose bodies are read over and over into the same memory: what keeping them costs is the difference."""

    name = THROWN_AWAY
    engine = "network-limit-thrown-away"
    competes_for = THROWN_AWAY
