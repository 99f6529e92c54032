"""One thing that `zcb doctor` looked at: what was found, what it is needed for, and what cures it."""

from collections.abc import Callable
from functools import partial
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


def judged(name: str, good: bool, otherwise: Verdict, *, found: str, needed_for: str, cure: str) -> Check:
    """Return a check that is ok when `good`, and else has the verdict `otherwise` and the cure."""
    return Check(
        name=name,
        verdict="ok" if good else otherwise,
        found=found,
        needed_for=needed_for,
        cure=None if good else cure,
    )


def carried_out(check: Callable[[], Check]) -> Check:
    """Return what a check finds; one that breaks on an odd machine says so, so that the others are still made."""
    try:
        return check()
    except Exception as error:
        plain = check.func if isinstance(check, partial) else check
        name = plain.__name__.strip("_").replace("_", " ")
        return Check(
            name=name,
            verdict="warn",
            found=f"cannot tell: {error}",
            needed_for="-",
            cure="look at it by hand: this machine or place does not tell",
        )
