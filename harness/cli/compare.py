"""``zcb compare`` and ``zcb pr``: which is faster, by how much, how sure."""

from collections.abc import Callable
from typing import Any

import click

from harness.cli.output import pretty
from harness.cli.values import ENV, FiniteRange, OutputFile, write_output
from harness.errors import AnswerIsNoError, MeasurementError
from harness.machine.environment import admit
from harness.machine.interrupts import terminated_with_cleaning
from harness.machine.redact import redacted
from harness.targets.resolve import resolve
from harness.verdict import builds
from harness.verdict.markdown import markdown
from harness.verdict.model import Verdict
from harness.verdict.page import page
from harness.verdict.run import Request, keeper, run
from harness.verdict.sides import parse_setting
from harness.verdict.statistics import Answer
from harness.verdict.terminal import show, wide_console
from harness.verdict.words import headline

_EXAMPLES = """\b
Examples:
  zcb compare 3.2.1 3.3.0 --quick
  zcb compare main ../zarr-python --markdown comment.md
  zcb compare = = --head-config array.sharding_coalesce_max_gap_bytes=0"""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.option(
                "--repo", metavar="URL|PATH", help="zarr-python (default: ZCB_ZARR_REPO, else asv.conf.json's)."
            ),
            click.option(
                "--readers", default="", metavar="A,B", help="Readers to compare (default: zarr-python's two stores)."
            ),
            click.option(
                "--patterns",
                default="",
                metavar="A,B",
                help="Patterns to compare (default: those of workloads.toml's verdict).",
            ),
            click.option("--target", default="embedded", show_default=True, help="Where to read from."),
            click.option(
                "--base-config", multiple=True, metavar="NAME=VALUE", help="A setting of zarr on base's side."
            ),
            click.option(
                "--head-config", multiple=True, metavar="NAME=VALUE", help="A setting of zarr on head's side."
            ),
            ENV,
            click.option("--quick", is_flag=True, help="Few-chunk patterns over obstore only, within a minute."),
            click.option("--seconds", type=FiniteRange(min=1), help="Budget of each reader and workload."),
            click.option(
                "--smallest", type=FiniteRange(0.1, 100), default=3, show_default=True, help="Percent that matter."
            ),
            click.option("--seed", type=int, default=0, help="Of the order of turns."),
            click.option(
                "--markdown",
                "markdown_file",
                type=OutputFile(),
                help="Write a comment for a pull request.",
            ),
            click.option("--html", "html_file", type=OutputFile(), help="Write a page with every pair."),
            click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON."),
        )
    ):
        command = option(command)
    return command


@click.command(epilog=_EXAMPLES)
@click.argument("base")
@click.argument("head")
@_options
def compare(base: str, head: str, repo: str | None, **given: Any) -> None:
    """Say which of BASE and HEAD reads faster, by how much and how surely.

    Each is a release of zarr (3.2.1), a commit, branch or tag of zarr-python, a directory with a working tree
    (../zarr-python), another package's version (obstore==0.11.0), a wheel of any package (dist/NAME.whl), a Python
    (python:3.14, python:3.14t, python:PATH), a zarrs crate for the Rust readers (crate:0.23.13, crate:REVISION,
    crate:PATH), or = for this environment as it is.
    Exit code 1 means slower, 4 that something could not be measured or that data were wrong.
    """
    _compare(base, head, repo, given)


@click.command(epilog="Example: zcb pr 3004 --markdown comment.md")
@click.argument("number", type=click.IntRange(min=1))
@_options
def pr(number: int, repo: str | None, **given: Any) -> None:
    """Say what pull request NUMBER of zarr-python does to reading: its merge base against it.

    Of a merged pull request its commit is compared with the parent. Exit code 1 means slower, 4 that something could
    not be measured or that data were wrong.
    """
    named = builds.repository_named(repo)
    resolve(given["target"])  # before a clone, which takes a minute
    clone = builds.clone_of(named)
    base, head, title = builds.pull_request(clone, number)
    subject = f"#{number} {title or ''}".rstrip()
    _say(subject)
    _compare(base[:12], head[:12], str(clone), given, subject)


def _compare(base: str, head: str, repo: str | None, given: dict[str, Any], subject: str | None = None) -> None:
    environment = admit(given["env"])
    request = Request(
        base=base,
        head=head,
        target=resolve(given["target"]),
        repository=repo,
        readers=_names(given["readers"]),
        patterns=_names(given["patterns"]),
        base_config=dict(map(parse_setting, given["base_config"])),
        head_config=dict(map(parse_setting, given["head_config"])),
        environment=environment,
        quick=given["quick"],
        seconds=given["seconds"],
        smallest=given["smallest"] / 100,
        seed=given["seed"],
        subject=subject,
    )
    path, keep = keeper()
    kept: list[Verdict] = []

    def keep_newest(verdict: Verdict) -> None:
        kept[:] = [verdict]
        keep(verdict)

    try:
        with terminated_with_cleaning():
            run(request, keep_newest)
    finally:
        if kept:
            _report(kept[0], given)
            _say(f"kept in {path}")
    _judge(kept[0])


def _judge(verdict: Verdict) -> None:
    """Raise what the exit code has to say: wrong data before slower, slower before what could not be measured."""
    is_slower = verdict.answer is Answer.SLOWER
    if verdict.failures and (not is_slower or any(finding.is_wrong for finding in verdict.findings)):
        raise MeasurementError("; ".join(verdict.failures))
    if is_slower:
        raise AnswerIsNoError(f"slower: {headline(verdict)}")


def _report(verdict: Verdict, given: dict[str, Any]) -> None:
    for file, text in ((given["markdown_file"], markdown), (given["html_file"], page)):
        if file is not None:
            write_output(file, text(verdict).encode() + b"\n")
    if given["as_json"]:
        click.echo(pretty(verdict))
    else:
        show(verdict, wide_console())


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _say(line: str) -> None:
    click.echo(redacted(f"zcb: {line}"), err=True)
