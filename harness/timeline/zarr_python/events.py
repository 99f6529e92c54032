"""What is noted while a read runs: as little as possible, to be put together when it is over."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any, NamedTuple

now = monotonic_ns

_NEVER = (None, None)


class Layout(NamedTuple):
    """How an array's shards are laid out, where it has shards that can be understood."""

    chunks_per_shard: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    index_at_end: bool
    index_nbytes: int


class Exchange:
    """One HTTP request below a store's `get`, where the HTTP client can be traced."""

    __slots__ = ("headers_ns", "last_byte_ns", "method", "nbytes", "range", "sent_ns", "status")

    def __init__(self, method: str) -> None:
        self.method = method
        self.range: tuple[int, int] | None = None
        self.status: int | None = None
        self.nbytes: int | None = None
        self.sent_ns: int | None = None
        self.headers_ns: int | None = None
        self.last_byte_ns: int | None = None


class Get:
    """One call of a store's `get`: usually one HTTP request."""

    __slots__ = (
        "asked",
        "begin",
        "chunks",
        "end",
        "exchanges",
        "headers_ns",
        "index",
        "is_index",
        "key",
        "last_byte_ns",
        "layout",
        "nbytes",
        "sent_ns",
        "stamps",
    )

    def __init__(self, key: str, byte_range: Any, layout: Layout | None) -> None:
        self.key = key
        self.asked = byte_range
        self.layout = layout
        self.begin: int | None = getattr(byte_range, "start", getattr(byte_range, "offset", None))
        """First byte asked for; None until known for a suffix."""
        if byte_range is None:
            self.begin = 0
        self.end: int | None = getattr(byte_range, "end", None)
        self.is_index = _is_index(byte_range, layout)
        self.index: bytes | None = None
        """The shard's index, where this request brought it."""
        self.nbytes: int | None = None
        self.headers_ns: int | None = None
        self.last_byte_ns: int | None = None
        self.stamps: list[tuple[int, int]] = []
        """Where the body is stamped as it arrives: (end of a part in the object, when), ascending."""
        self.exchanges: list[Exchange] = []
        self.chunks: list[Chunk] = []
        self.sent_ns: int | None = now()


def _is_index(byte_range: Any, layout: Layout | None) -> bool:
    if layout is None or byte_range is None:
        return False
    if layout.index_at_end:
        return getattr(byte_range, "suffix", None) == layout.index_nbytes
    return (getattr(byte_range, "start", None), getattr(byte_range, "end", None)) == (0, layout.index_nbytes)


class Chunk:
    """One chunk on its way from bytes of a request to the final array."""

    __slots__ = (
        "busy_ns",
        "copied",
        "decode_start_ns",
        "decoded_ns",
        "get",
        "length",
        "offset",
        "shard_copied",
        "thread",
    )

    def __init__(self, get: Get, offset: int, length: int) -> None:
        self.get = get
        self.offset = offset
        self.length = length
        self.thread: int | None = None
        self.decoded_ns: int | None = None
        self.shard_copied: tuple[int | None, int | None] = _NEVER
        """When the copy into the shard's array began and ended."""
        self.copied: tuple[int | None, int | None] = _NEVER
        """The same of the copy into the final array, which may be one copy for a whole shard."""
        self.busy_ns = 0
        """Time inside codecs."""
        self.decode_start_ns = now()


class Item:
    """One shard (or chunk without shard) that a read wants something of."""

    __slots__ = ("copied", "key", "layout", "out_selection", "selection", "shape")

    def __init__(
        self, key: str, shape: tuple[int, ...], selection: Any, out_selection: Any, layout: Layout | None
    ) -> None:
        self.key = key
        self.shape = shape
        self.selection = selection
        self.out_selection = out_selection
        self.layout = layout
        self.copied: tuple[int, int] | None = None
        """Copied as a whole, without any chunk of it having been seen."""


CURRENT: ContextVar[Get | None] = ContextVar("zcb_current_get", default=None)
"""The store's `get` that the running task works for; ties HTTP requests to it."""


@dataclass(eq=False)
class Recording:
    """What a recorder noted of one read."""

    gets: list[Get] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Remarks for whoever looks at the timeline."""
    begin_ns: int | None = None
    end_ns: int | None = None
