"""Lengths per axis as an option's value."""

import re

import click


class Lengths(click.ParamType["tuple[int, ...]"]):
    """Lengths per axis, e.g. ``128,1024,1024``; or ``128x1024x1024``, as tables and labels write them."""

    name = "lengths"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the lengths as a tuple."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(length) for length in re.split("[,x]", value))
        except ValueError:
            self.fail(f"{value[:80]!r} is not a list of lengths such as 128,1024,1024 or 128x1024x1024", param, ctx)
