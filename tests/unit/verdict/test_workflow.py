"""The GitHub workflows for zarr-python: they parse, ask for no right they do not need, and call commands that exist."""

import re
from pathlib import Path

import click
import pytest
import yaml  # type: ignore[import-untyped]

from harness.cli import zcb

FOLDER = Path(__file__).parents[3] / "docs" / "github"


@pytest.mark.parametrize("name", ["zcb-verdict.yml", "zcb-comment.yml", "zcb-watch.yml"])
def test_every_command_and_option_exists(name):
    jobs = yaml.safe_load((FOLDER / name).read_text())["jobs"]
    scripts = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    called = re.findall(r"bin/zcb ([^\n>|]+)", "\n".join(scripts).replace("\\\n", " "))
    assert bool(called) == (name != "zcb-comment.yml")
    for words in map(str.split, called):
        command: click.Command | None = zcb
        while isinstance(command, click.Group):
            command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_the_code_of_a_pull_request_runs_without_any_right_to_write():
    measuring = yaml.safe_load((FOLDER / "zcb-verdict.yml").read_text())
    assert measuring["permissions"] == {"contents": "read"}
    assert measuring[True] == {"pull_request": {"types": ["labeled"]}}  # YAML reads "on" as true
    writing = (FOLDER / "zcb-comment.yml").read_text()
    assert "checkout" not in writing
    for text in (path.read_text() for path in FOLDER.glob("*.yml")):
        scripts = [step.get("run", "") for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"]]
        assert not [
            script for script in scripts if "${{" in script
        ]  # what others wrote reaches scripts as variables only


def test_the_watch_runs_the_code_of_others_without_any_right_to_write_and_tells_its_answer_last():
    whole = yaml.safe_load((FOLDER / "zcb-watch.yml").read_text())
    assert whole["permissions"] == {"contents": "read"}
    measure, pages = whole["jobs"]["measure"], whole["jobs"]["pages"]
    assert "permissions" not in measure
    assert pages["permissions"] == {"pages": "write", "id-token": "write"}
    assert not [step for step in pages["steps"] if "run" in step]
    assert measure["steps"][-1]["run"] == 'exit "$CODE"'
