"""The course of a long job on a screen: what is being done, how far it is, and how long it still takes."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_PACE = (0.5, 3.0)
"""How many times slower than expected a machine may be taken to be, at least and at most."""
_HOURS_FROM = 100 * 60.0
"""Seconds that are said in hours."""
_ENOUGH_SECONDS = 30.0
"""What has to be done before it tells of the machine."""


class Course:
    """Steps with the seconds that each is expected to take; on a terminal a bar, elsewhere a line for each step.

    Use it as a context manager. The rest is expected to go as fast as what is done went.

    Parameters
    ----------
    console
        Where it is shown, by default stderr.
    clock
        Seconds from any beginning.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._clock, self._begin = clock, clock()
        self._expected: dict[str, float] = {}
        self._share: dict[str, float] = {}
        self._doing = ""
        columns = (TextColumn("{task.fields[times]}"), BarColumn(20), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("", total=1.0, times="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Show no more."""
        self._bar.stop()

    def expect(self, steps: Mapping[str, float]) -> None:
        """Add steps: name -> seconds."""
        self._expected |= steps

    def forget(self, name: str) -> None:
        """Take a step out: it is not needed."""
        self._expected.pop(name, None)

    def tell(self, line: str) -> None:
        """Print a line that stays."""
        minutes, seconds = divmod(int(self.elapsed), 60)
        self._console.print(f"{minutes:2}:{seconds:02}  {line}", markup=False, soft_wrap=True)

    def finish(self, names: Iterable[str]) -> None:
        """Take steps as done, whether or not anything was heard of them."""
        self._share |= dict.fromkeys(names, 1.0)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Do a step inside the block."""
        self.reach(name, 0.0)
        yield
        self.finish([name])

    def reach(self, name: str, share: float, *, doing: str | None = None) -> None:
        """Say how much of a step is done, from 0 to 1, and in what words it is shown."""
        self._share[name] = max(share, self._share.get(name, 0.0))
        doing = doing or name
        if self._console.is_terminal:
            self._bar.update(self._task, completed=self.share, description=doing, times=self._times())
        elif doing != self._doing:
            self.tell(f"{doing} ({self._times()})")
        self._doing = doing

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._begin

    @property
    def share(self) -> float:
        """How much of everything expected is done."""
        whole = sum(self._expected.values())
        return self._done() / whole if whole else 0.0

    @property
    def seconds_left(self) -> float:
        """How long the rest takes."""
        done = self._done()
        pace = self.elapsed / done if done >= _ENOUGH_SECONDS else 1.0
        return (sum(self._expected.values()) - done) * min(max(pace, _PACE[0]), _PACE[1])

    def _done(self) -> float:
        return sum(seconds * self._share.get(name, 0.0) for name, seconds in self._expected.items())

    def _times(self) -> str:
        return f"{100 * self.share:.0f} %, {duration(self.seconds_left)} left"


def duration(seconds: float) -> str:
    """Return a time as a person says it: ``about 7 min``."""
    if seconds >= _HOURS_FROM:
        return f"about {seconds / 3600:.1f} hours"
    return "less than a minute" if seconds < 45 else f"about {max(1, round(seconds / 60))} min"
