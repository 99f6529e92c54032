"""Secrets are found nowhere, names are text everywhere, and nothing is handed to a shell."""

import ast
import html
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from harness.cli import main
from harness.machine.redact import redacted
from harness.paths import ROOT
from harness.results.timelines import TimelineRecord
from harness.site.page import Contents
from harness.site.pages import index, readers, timelines
from harness.timeline.pictures import html_page, svg_picture
from harness.verdict.markdown import markdown
from harness.verdict.model import Finding, SideRecord, Verdict
from harness.verdict.page import page
from tests.support import passes
from tests.support.chromium import visit
from tests.unit.timeline.test_pictures import made

PLANTED = {
    "AWS_ACCESS_KEY_ID": "PLANTEDKEYID5f1c",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-8d2e",
    "AZURE_STORAGE_KEY": "planted-azure-77aa",
    "GOOGLE_APPLICATION_CREDENTIALS": "planted-google-31bb",
}
MARKS = [value.encode() for value in PLANTED.values()]
WRONG = {**PLANTED, "AWS_SECRET_ACCESS_KEY": "planted-wrong-03cc"}
NASTY = """</script><img src="x" onerror='window.hacked = 1'>|`[a](http://h.example/)"""

_MEASURE = """
from harness.asv.tracked import run_pass
from harness.workload.cases import Case
from harness.workload.patterns import Parameters
case = Case(pattern="chunks_of_one_shard", dataset="small", parameters=Parameters(gap=0))
run_pass("chunks_of_one_shard", ["zarr-python+obstore"], {(0,): case})
"""


@pytest.fixture(scope="module")
def observed(store_binary, tmp_path_factory):
    """A session with planted secrets: a store that demands them, data, samples, a timeline, a pass, wrong keys.

    Returns the directory with everything that was written, and what was printed and seen of processes.
    """
    folder = tmp_path_factory.mktemp("planted")
    variables = {
        "ZCB_STATE_DIR": str(folder / "state"),
        "ZCB_PRESET": "tiny",
        "ZCB_SAMPLES": "1",
        "ZCB_PASSES": str(folder / "results" / "box" / "passes"),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    printed: list[bytes] = []

    def run(*command, keys=PLANTED, code=0):
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env=os.environ | variables | keys, capture_output=True, check=False
        )
        printed.append(done.stdout + done.stderr)
        assert done.returncode == code, done.stderr.decode()

    def zcb(*arguments, **options):
        run("-m", "harness.cli", *arguments, **options)

    seen: dict[int, bytes] = {}
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(seen, over))
    watch.start()
    try:
        zcb("store", "start", "--profile", "loopback", "--auth", "--json")
        zcb("data", "create", "--target", "embedded", "--preset", "tiny", "--dataset", "small")
        zcb("data", "verify", "--target", "embedded", "--json")
        zcb("workload", "chunks_of_one_shard", "--target", "embedded", "-o", "w.json")
        zcb("read", "zarr-python+obstore,zarr-python+fsspec,tensorstore", "w.json", "--samples", "1", "--json")
        zcb("read", "zarr-python+obstore", "w.json", "--timeline", "t.json", "--pairs", "1", "--no-wire")
        zcb("timeline", "t.json", "--format", "html", "-o", "t.html")
        run("-c", _MEASURE)
        for reader in ("zarr-python+obstore", "zarr-python+fsspec"):
            zcb("read", reader, "w.json", "--samples", "1", keys=WRONG, code=3)
        zcb("store", "status", "--json")
    finally:
        zcb("store", "stop")
        over.set()
        watch.join()
    return folder, b"".join(printed), seen


def _watch(seen, over):
    """Collect the command line of every process that runs this repository's code meanwhile."""
    while not over.wait(0.1):  # Python alone takes longer to start
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    line = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if b"harness" in line or b"s3-store" in line or b"zarrs-reader" in line:
                    seen[int(entry.name)] = line


def holds_secret(content):
    return [mark for mark in (*MARKS, WRONG["AWS_SECRET_ACCESS_KEY"].encode()) if mark in content]


def test_planted_secrets_are_in_no_file(observed):
    folder, _, _ = observed
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"w.json", "t.json", "t.html", "s3-store.log"} <= names  # the search has something to search
    assert any(name.endswith(".pass") for name in names)
    assert {path: found for path in files if (found := holds_secret(path.read_bytes()))} == {}


def test_planted_secrets_are_not_printed(observed):
    _, printed, _ = observed
    assert b"refuses these credentials" in printed
    assert b'"samples"' in printed
    assert holds_secret(printed) == []


def test_planted_secrets_are_in_no_list_of_processes(observed):
    _, _, seen = observed
    lines = b"\n".join(seen.values())
    assert b"s3-store\0" in lines  # the store, and workers, were seen
    assert b"harness.readers.worker\0zarr-python+obstore" in lines
    assert holds_secret(lines) == []


def test_a_search_would_find_a_secret():
    assert holds_secret(b"x" + MARKS[1] + b"x") == [MARKS[1]]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cloning https://me:planted@host/x", "cloning https://...@host/x"),
        ("https://planted@host/x and s3://a:planted@b", "https://...@host/x and s3://...@b"),
        ("https://host/x@1 and me@host", "https://host/x@1 and me@host"),
        ("'https://me:pl@nted@host/'", "'https://...@host/'"),
    ],
)
def test_addresses_lose_their_passwords(text, shown):
    assert redacted(text) == shown


def test_a_repository_with_a_password_is_shown_without(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path))
    address = "https://me:planted-password@127.0.0.1:9/zarr.git"
    monkeypatch.setattr(sys, "argv", ["zcb", "pr", "1", "--repo", address, "--target", "s3://x"])
    with pytest.raises(SystemExit) as ended:
        main()
    _, err = capsys.readouterr()
    assert ended.value.code == 2
    assert "127.0.0.1:9" in err
    assert "planted-password" not in err


def test_without_a_store_nothing_is_cloned(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["zcb", "pr", "1", "--repo", "https://127.0.0.1:9/zarr.git"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert "zcb store start" in capsys.readouterr().err
    assert not (tmp_path / "repositories").exists()


# --- names


def verdict():
    side = SideRecord(label=NASTY, detail=NASTY, versions={NASTY: NASTY})
    finding = Finding(
        reader=NASTY,
        pattern=NASTY,
        workload=NASTY,
        digest="0",
        array_bytes=1,
        error=NASTY,
        timelines={"base": made(2, reader=NASTY)},
    )
    return Verdict(
        base=side,
        head=side,
        target=NASTY,
        command=NASTY,
        started="2026",
        machine=NASTY,
        smallest_effect=0.03,
        error_rate=0.05,
        comparisons=1,
        findings=[finding],
    )


def kept():
    return TimelineRecord(
        schema=1,
        commit="0" * 40,
        commit_name=NASTY,
        env_name=NASTY,
        settings={"ZCB_PRESET": NASTY},
        started=NASTY,
        read=NASTY,
        timeline=made(2, reader=NASTY),
    )


def pages(folder):
    """Every page of ours, with a name that would do harm wherever it is not escaped."""
    found = passes.run(rounds=3, extra={NASTY: 2.0})
    index.PAGE.write(index.contents(found, project=NASTY), folder)
    readers.PAGE.write(Contents(data=readers.payload(found, project=NASTY)), folder)
    timelines.PAGE.write(timelines.contents([kept()]), folder)
    (folder / "verdict.html").write_text(page(verdict()))
    (folder / "timeline.html").write_text(html_page([made(2, reader=NASTY)]))
    (folder / "timeline.svg").write_text(svg_picture(made(2, reader=NASTY)))
    return sorted(folder.glob("*.html")) + sorted(folder.glob("*.svg"))


def test_names_are_text_in_the_files_of_every_page(tmp_path):
    made_pages = pages(tmp_path)
    assert [path.name for path in made_pages] == [
        "index.html", "readers.html", "timeline.html", "timelines.html", "verdict.html", "timeline.svg",
    ]  # fmt: skip
    for path in made_pages:
        text = path.read_text()
        assert "<img src=" not in text, path
        assert "window.hacked" in html.unescape(text), path  # the name is there


def test_names_are_text_in_a_browser(tmp_path, browser):
    for path in pages(tmp_path):
        with visit(browser, path.as_uri()) as shown:
            assert shown.evaluate("window.hacked") is None, path
            assert shown.locator('img[src="x"]').count() == 0, path
            if path.suffix == ".html":
                assert "window.hacked" in shown.locator("body").inner_text(), path


def test_names_are_text_in_a_comment():
    text = markdown(verdict())
    outside = re.sub(r"`[^`]*`|```.*?```", "", text, flags=re.DOTALL)
    assert "<img" not in outside
    assert "](" not in outside
    assert "onerror" in outside
    for line in text.splitlines():
        if line.startswith("| ") and "onerror" in line:
            assert len(re.findall(r"(?<!\\)\|", line)) in (8 + 1, 6 + 1), line  # cells of the two tables


# --- shells


def sources():
    return [path for folder in ("harness", "setup_data", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


def test_no_command_is_a_string():
    """Processes are started from lists of arguments: no call of a shell, and none with a `shell` option."""
    bad = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                shells = name in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput")
                if shells or any(keyword.arg == "shell" for keyword in node.keywords):
                    bad.append(f"{path.name}:{node.lineno}")
    assert len(sources()) > 100
    assert bad == []


def test_the_linters_rules_of_security_stay_on():
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    off = [rule for rule in lint["ignore"] if rule.startswith("S") and rule[1:].isdecimal()]
    assert "S" in lint["select"]
    assert off == ["S603", "S607"]  # processes from argument lists, found on PATH


def test_a_record_of_a_pass_says_nothing_of_the_environment(observed):
    folder, _, _ = observed
    (path,) = (folder / "results").rglob("*.pass")
    assert json.loads(path.read_bytes())["settings"] == {"ZCB_PRESET": "tiny"}
