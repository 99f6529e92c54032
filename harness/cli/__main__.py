"""``python -m harness.cli``: the command without its console script."""

from harness.cli import command

command()
