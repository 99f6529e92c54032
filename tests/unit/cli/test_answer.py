"""``zcb answer`` from the outside: what it prints, that it fits, what it writes, and how it refuses."""

import json
import re
import shlex
import subprocess
import xml.etree.ElementTree as ElementTree

import msgspec
import pytest
from click.testing import CliRunner

from harness import site
from harness.cli import zcb
from harness.cli.compare import compare
from harness.readers import under_test
from harness.results.answer import answer
from harness.results.answer_lines import lines
from harness.results.records import load
from tests.support import passes
from tests.unit.results.test_table import config_of


@pytest.fixture
def config(tmp_path):
    return config_of(tmp_path, passes.run())


def run(config, *arguments, columns=80):
    return CliRunner().invoke(zcb, ["answer", "--config", str(config), *arguments], env={"COLUMNS": str(columns)})


def shown(config, *arguments, columns=80):
    done = run(config, *arguments, columns=columns)
    assert done.exit_code == 0, done.output
    return done.stdout


def told(config, target="embedded:s3"):
    return lines(answer([record for record in load(config) if record.target == target], under_test()))


@pytest.mark.parametrize("columns", [80, 112])
@pytest.mark.parametrize("rounds", [15, 2])
def test_it_prints_the_lines_and_fits(tmp_path, rounds, columns):
    config = config_of(tmp_path, passes.run(rounds=rounds))
    text = shown(config, "--target", "embedded:s3", columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    assert all(line == line.rstrip() for line in text.splitlines())
    words = " ".join(text.replace("\\\n", " ").split())
    assert len(told(config)) >= 4
    for line in told(config):
        assert line.text in words


def test_the_command_that_decides_is_one_for_a_shell(tmp_path):
    config = config_of(tmp_path, passes.run(rounds=2))
    text = shown(config, "--target", "embedded:s3")
    (command,) = re.findall(r"^  (zcb compare(?:.*\\\n)+.*)$", text, re.MULTILINE)
    shell = f"zcb() {{ printf '%s\\n' zcb \"$@\"; }}; {command}"
    words = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout.splitlines()
    assert words == shlex.split(next(line.text for line in told(config) if line.kind == "command"))
    assert compare.make_context("compare", words[2:]).params["readers"]


def test_pages_are_named_where_they_are(config):
    assert ".html" not in shown(config)
    html = config.parent / "html"
    html.mkdir()
    for name in ("index.html", site.GRAPHS):
        (html / name).write_text("a page")
    assert shown(config).splitlines()[-2:] == [str(html / "index.html"), str(html / site.GRAPHS)]
    assert json.loads(shown(config, "--json"))["pages"] == [str(html / "index.html"), str(html / site.GRAPHS)]


def test_json_holds_every_finding_and_the_lines(config):
    found = json.loads(shown(config, "--target", "embedded:s3", "--json"))
    assert (found["schema"], found["place"]) == (1, "embedded:s3 demo on box")
    assert found["lines"] == msgspec.to_builtins(told(config))
    (step,) = found["steps"]
    assert len(step["findings"]) == 2 * len(passes.WORKLOADS)  # fused cannot at the first version
    assert {finding["kind"] for finding in step["findings"]} == {"faster"}


def test_the_place_that_was_measured_last_is_answered_of(config):
    latest = msgspec.structs.replace(passes.run()[-1], started="2026-12-01T00:00:00+00:00")
    assert latest.target == "embedded:loopback"
    (config.parent / "results" / "box" / "passes" / "last.pass").write_bytes(msgspec.json.encode(latest))
    assert "read from embedded:loopback demo on box" in shown(config)
    assert "Only" in shown(config)
    assert "read from embedded:s3 demo on box" in shown(config, "--target", "embedded:s3")


def test_the_picture_is_written_and_is_svg(config, tmp_path):
    picture = tmp_path / "readers.svg"
    shown(config, "--target", "embedded:s3", "--svg", str(picture))
    root = ElementTree.fromstring(picture.read_text())  # noqa: S314 - our own
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "embedded:s3 demo on box" in "".join(root.itertext())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "moon"], "no results of target 'moon': there are embedded:loopback, embedded:s3"),
        (["--config", "no-such.json"], "there is no asv configuration no-such.json"),
        (["--svg", "asv.conf.json/x.svg"], "cannot write 'asv.conf.json/x.svg'"),
    ],
)
def test_bad_use_says_what_is_wrong(config, monkeypatch, arguments, message):
    monkeypatch.chdir(config.parent)
    done = run(config, *arguments)
    assert message in f"{done.exception} {done.output}"
    assert getattr(done.exception, "exit_code", done.exit_code) == 2
