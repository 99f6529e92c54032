"""The ``zcb`` command: one module per command, one way to fail.

What the command needs takes a tenth of a second and more to import, and Ctrl-C shall be heard before that: so this
module imports next to nothing, and `harness.cli.group` holds the rest.
"""

import importlib
from typing import Any, NoReturn

from harness.machine import interrupts


def command() -> NoReturn:
    """Run ``zcb`` as a process of its own."""
    interrupts.end_at_once()
    from harness.cli import output
    from harness.cli.group import main
    from harness.machine.exit import run_then_exit

    output.take_over()
    run_then_exit(main)


def __getattr__(name: str) -> Any:
    """Return ``main`` or ``zcb``, imported when they are asked for."""
    if name not in ("main", "zcb"):
        raise AttributeError(name)
    return getattr(importlib.import_module("harness.cli.group"), name)
