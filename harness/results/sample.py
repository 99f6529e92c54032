"""One timed execution and everything that was counted around it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

NETWORK_LIMIT = "network-limit"
"""The reader whose time the others are held against: it fetches what is wanted and decodes nothing."""

THROWN_AWAY = "network-limit-thrown-away"
"""The same, but what is fetched is not even kept."""

FLAG_NEW_CONNECTIONS = "new-connections"
FLAG_IN_FLIGHT = "in-flight"
FLAG_CPU_BOUND = "cpu-bound"
FLAG_BUSY_MACHINE = "busy-machine"
FLAG_THROTTLED = "throttled"
FLAG_BELOW_LIMIT = "below-limit"
FLAG_OTHER_TRAFFIC = "other-traffic"
FLAG_NO_MANIFEST = "no-manifest"
FLAG_FAULTS = "faults"
FLAG_HOT = "hot"


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A reason to read a sample with care."""

    key: str
    letter: str
    """Its mark in the terminal's tables."""
    mark: str
    """Its mark on the page of readers."""
    meaning: str


_ALL = (
    Flag(
        key=FLAG_CPU_BOUND,
        letter="C",
        mark="cpu",
        meaning="reader and store kept over 90 % of all cores busy, or of the CPU time that a quota leaves them: the "
        "CPU was measured, not the network",
    ),
    Flag(
        key=FLAG_BUSY_MACHINE,
        letter="B",
        mark="busy",
        meaning="other programs kept over 10 % of all cores busy during the sample, or the last half second if it is "
        "shorter",
    ),
    Flag(
        key=FLAG_THROTTLED,
        letter="T",
        mark="throttled",
        meaning="a CPU quota stopped the reader for part of the sample: the quota was measured, not the network",
    ),
    Flag(
        key=FLAG_IN_FLIGHT,
        letter="F",
        mark="in flight",
        meaning="most requests in flight were over 20 % more than asked for, or over 20 % fewer although the reader "
        "sent enough requests for data that could have been under way together",
    ),
    Flag(
        key=FLAG_NEW_CONNECTIONS,
        letter="N",
        mark="conn",
        meaning="the store accepted a new connection during the sample: it was not fully warm",
    ),
    Flag(
        key=FLAG_OTHER_TRAFFIC,
        letter="O",
        mark="traffic",
        meaning="the interface received more than bodies and headers explain: other traffic, repeated packets, or new "
        "connections",
    ),
    Flag(
        key=FLAG_BELOW_LIMIT,
        letter="L",
        mark="< limit",
        meaning="faster than the network limit measured around it: the limit is not a limit here",
    ),
    Flag(
        key=FLAG_NO_MANIFEST,
        letter="M",
        mark="agreed",
        meaning="the array has no manifest: its truth is what two independent readers agree on",
    ),
    Flag(
        key=FLAG_HOT,
        letter="H",
        mark="hot",
        meaning="objects that were read before in this round were read, although cold ones were asked for: there are "
        "too few, or the array has no manifest",
    ),
    Flag(
        key=FLAG_FAULTS,
        letter="X",
        mark="faults",
        meaning="the store injected faults during the sample, as it was asked to: for looking at, never a result",
    ),
)

FLAGS = {flag.key: flag for flag in _ALL}
"""Every flag that a sample can carry, by its key."""


def flags_of(samples: Iterable["Sample"]) -> list[Flag]:
    """Return every flag that any of the samples has."""
    found = {flag for sample in samples for flag in sample.flags}
    return [flag for key, flag in FLAGS.items() if key in found]


class RequestCounts(msgspec.Struct, kw_only=True):
    """HTTP requests of a reader as its own code counts them; a total since the last reset."""

    requests: int = 0
    index_requests: int = 0
    """GETs of a shard index (suffix ranges)."""
    head_requests: int = 0
    retries: int | None = None
    """Requests sent again; None where the library hides that."""
    fetched_bytes: int = 0
    """Bytes of HTTP bodies."""


class Window(msgspec.Struct, kw_only=True):
    """One step of a stream: a window, or the two that are under way at once."""

    seconds: float
    array_bytes: int


class Timed(msgspec.Struct, kw_only=True):
    """What the reader's own process knows of one execution."""

    seconds: float
    cpu_seconds: float
    """CPU clock of the reader's process over the timed part."""
    peak_rss_bytes: int | None
    """Largest resident set during the timed part alone; None where the kernel cannot reset it."""
    array_bytes: int
    calls: int
    request_counts: RequestCounts | None
    """None where the library gives no way to count its requests."""
    busiest_thread_seconds: float | None = None
    """CPU time of the thread that took most of it, of those that are left at the end; None where nobody told."""
    windows: list[Window] | None = None
    """Of a stream, each step in its order; `seconds` is their sum. None of any other workload."""
    verified: bool = True
    """Whether what was read was compared with a truth and equals it; a worker in Rust says what it compared."""


class Sample(msgspec.Struct, kw_only=True):
    """A verified sample; what is unknown is None, never 0."""

    seconds: float
    array_bytes: int
    """Bytes of the final, decoded arrays."""
    calls: int
    """Calls of the library's API that the workload took."""
    requests: int | None = None
    index_requests: int | None = None
    head_requests: int | None = None
    retries: int | None = None
    faults: int | None = None
    """Faults that the embedded store injected during the sample; then it counted the requests and their retries."""
    requests_source: Literal["reader", "store"] | None = None
    """Who counted the requests and bytes above and below."""
    fetched_bytes: int | None = None
    """Bytes of HTTP bodies received."""
    nic_rx_bytes: int | None
    """Bytes the interface received, headers included; None on lo, which counts both directions."""
    nic_rx_packets: int | None
    other_rx_bytes: int | None = None
    """Received bytes that neither bodies nor headers explain; where bodies are unknown, what the idle machine received
    in as long a time. None on lo."""
    other_cores: float | None = None
    """Cores that other programs kept busy during the sample, or the last half second where it is shorter."""
    throttled_periods: int | None = None
    """Periods of the scheduler, usually of 100 ms, in which a CPU quota stopped the reader; None without a quota."""
    cpu_seconds: float
    busiest_thread_seconds: float | None = None
    """CPU time of the reader's busiest thread; None where its worker does not tell, and in older records."""
    store_cpu_seconds: float | None = None
    peak_rss_bytes: int | None
    max_in_flight: int | None = None
    new_connections: int | None = None
    limit_seconds: float | None = None
    """Mean of the two network-limit samples around this one."""
    limit_requests: int | None = None
    limit_fetched_bytes: int | None = None
    """What the network limit asked for, in the sample before this one."""
    cold: bool | None = None
    """Whether it read objects that no other sample of its round read; None in older records."""
    session: int | None = None
    """Which fresh process of its reader took it, counted from 1; None in older records."""
    round_number: int | None = None
    """Round of its workload, counted from 1 over all sessions; None in older records."""
    windows: list[Window] | None = None
    """Of a stream, each step in its order; `seconds` is their sum. None of any other workload, and in older records."""
    flags: list[str]
    """Keys of `FLAGS`."""
    verified: bool
    """The array equalled the truth, or of the network limit, which decodes nothing: all wanted bytes came. Samples of
    which that is not so are never recorded."""

    @property
    def times_slower(self) -> float | None:
        """Seconds over those of the network limit around it; of several samples see `harness.results.slower`."""
        return None if self.limit_seconds is None else self.seconds / self.limit_seconds
