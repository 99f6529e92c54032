"""Data sets on the store of the tests, written as a user writes them."""

from click.testing import CliRunner

from setup_data.cli import data


def create(*arguments: str) -> None:
    """Run ``zcb data create --target embedded`` with `arguments`; what is there already is kept."""
    done = CliRunner().invoke(data, ["create", "--target", "embedded", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
