"""Bytes that are nearly what a parser reads: for property tests of everything that reads what others wrote."""

import contextlib
import copy
import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from harness.errors import ZcbError

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, 10**40, 0.5, -0.0, 1e308,
    "", ".", "../x", "a//b", "\0", "=", "AAAA", "f8,(2", "(3,)i4", "U9", "O", "s3://", "http://[", [], [[]], {},
    {"": 0}, [0, 0, 0], [0, 1, 1], [0, 2**60, 1], [[0, 2**60, 1]], "x" * 5000,
]  # fmt: skip
"""Values that are at the edge of something, or nothing at all."""


def _any_json() -> st.SearchStrategy[Any]:
    leaves = st.sampled_from(ODD) | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=8
    )


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to each value inside `value`, itself left out."""
    inside = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    return [path for key, one in inside for path in [(*at, key), *_places(one, (*at, key))]]


@st.composite
def mutated(draw: st.DrawFn, good: bytes) -> bytes:
    """Draw JSON text with some values of `good` changed or missing, cut short now and then, or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    value = json.loads(good)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(value)
        if not places:
            break
        *path, last = draw(st.sampled_from(places))
        holder = value
        for key in path:
            holder = holder[key]
        if isinstance(holder, dict) and draw(st.integers(0, 4)) == 0:
            del holder[last]
        else:
            value_there = holder[last]
            alike = [one for one in ODD if type(one) is type(value_there)]
            changed = st.sampled_from(alike) | _any_json() if alike else _any_json()
            holder[last] = copy.deepcopy(draw(changed))  # the values above are not to be changed
    text = json.dumps(value).encode()
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 9)) == 0 else text


EXAMPLES = int(os.environ.get("ZCB_FUZZ_EXAMPLES", "100"))
"""For each property; a night's run asks for more."""

fuzzed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""How a property of a parser is tested."""

_MOST_SECONDS = 10.0
_MOST_NBYTES = 1 << 30


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Let what the block does fail where it takes ten seconds, or a gibibyte more than there was."""

    def give_up(*_: object) -> None:
        raise TimeoutError("it takes without end")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, give_up)
    resource.setrlimit(resource.RLIMIT_AS, (used + _MOST_NBYTES, hard))
    left = signal.setitimer(signal.ITIMER_REAL, _MOST_SECONDS)  # pytest's own time-out
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *left)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def read_or_refused[T](read: Callable[[bytes], T], data: bytes) -> T | None:
    """Return what `read` makes of `data`, or None where it refuses in one line; anything else fails the test."""
    with bounded():
        try:
            return read(data)
        except ZcbError as error:
            said = str(error)
    assert len(said.splitlines()) == 1
    return None
