"""A table's row for each thing that `zcb doctor` looks at, and what comes of it: found, needed for what, cured how."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

Verdict = Literal["ok", "warn", "missing", "wrong"]
"""What is missing or wrong stops a measurement; a warning spoils or limits it."""
SERIOUS = ("missing", "wrong")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at."""

    name: str
    verdict: Verdict
    found: str
    needed_for: str
    cure: str | None = None
    """What to do; None when all is well."""


@dataclass(frozen=True)
class Seen:
    """What a look found, and whether that is good."""

    good: bool
    found: str
    verdict: Verdict | None = None
    """Where it is not good and the row's verdict would be another one."""
    words: Mapping[str, str] = field(default_factory=dict)
    """What fills the blanks of the row's texts."""


@dataclass(frozen=True)
class Row:
    """One thing to look at; its texts may have blanks, e.g. ``{size}``, for what is known only after the look."""

    name: str
    needed_for: str
    look: Callable[[], Seen]
    cure: str
    otherwise: Verdict = "warn"
    """The verdict where what was found is not good."""

    def check(self) -> Check:
        """Look. A look that breaks on an odd machine is a warning, so that the other rows are still looked at."""
        try:
            seen = self.look()
        except Exception as error:
            found, cure = f"cannot tell: {error}", "look at it by hand: this machine or place does not tell"
            return Check(name=self.name, verdict="warn", found=found, needed_for="-", cure=cure)
        return Check(
            name=self.name,
            verdict="ok" if seen.good else seen.verdict or self.otherwise,
            found=seen.found,
            needed_for=self.needed_for.format_map(seen.words),
            cure=None if seen.good else self.cure.format_map(seen.words),
        )
