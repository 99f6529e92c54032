"""``zcb crates``: the Rust readers built with zarrs' main branch."""

import click

from harness.verdict.crates import keep_main


@click.command(epilog="Example: zcb crates && zcb read zarrs,zarrs+main w.json")
def crates() -> None:
    """Build the Rust readers with zarrs' main branch as it is now, for the rows `zarrs+main` and `zarrs-planned+main`.

    It takes minutes the first time and is kept. ZCB_ZARRS_REPO names another repository, a URL or a path.
    """
    click.echo(keep_main())
