"""Bad input of every command and of every file that a person writes: one line, the right exit code, nothing written."""

import itertools
import json
import subprocess
import sys
from typing import Any

import msgspec
import obstore
import pytest

from harness.asv import wheels
from harness.cli import main
from harness.errors import BadUseError
from harness.store import state
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.workload import model as workloads
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from setup_data import presets, write
from setup_data.bucket import ensure_bucket
from tests.e2e.test_setup_data import make_spec

HUGE = str(10**30)
LONG = "x" * 1000
DIRECTORY, BINARY, EMPTY, MISSING = "a-directory", "binary", "empty", "missing"
NO_FILES = (DIRECTORY, BINARY, EMPTY, MISSING)


@pytest.fixture(scope="module")
def place(embedded_store, tmp_path_factory):
    """A directory with files that are none, and a store with two small datasets."""
    folder = tmp_path_factory.mktemp("place")
    (folder / DIRECTORY).mkdir()
    (folder / BINARY).write_bytes(bytes(range(256)))
    (folder / EMPTY).touch()
    target = resolve("embedded")
    ensure_bucket(target)
    for spec in presets.specs("tiny", ("small", "large")):
        write.write(open_store(target), spec)
    return folder


@pytest.fixture(scope="module")
def listed(place):
    """What lists every file of the directory, and every object of the store."""
    store = open_store(resolve("embedded"))

    def everything():
        files = {str(path): path.read_bytes() if path.is_file() else b"" for path in place.rglob("*")}
        return files, {meta["path"]: meta["e_tag"] for batch in obstore.list(store) for meta in batch}

    return everything


@pytest.fixture
def zcb(place, listed, monkeypatch, capfd):
    """Run the command in this process; returns its exit code and its one line, having written nothing."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("ZCB_PRESET", "tiny")

    def run(*arguments):
        before = listed()
        monkeypatch.setattr(sys, "argv", ["zcb", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert listed() == before
        assert out == ""
        (line,) = err.strip().splitlines()
        assert line.startswith("zcb: ")
        assert len(line) < 600
        assert not line.startswith("zcb: unexpected"), line
        return ended.value.code, line

    return run


def rows(complaint: str, before: list[str], values: Any, after: Any = ()) -> list[tuple[list[str], str]]:
    """A row for each value: the arguments with the value between `before` and `after`, and what has to be said."""
    return [([*before, value, *after], complaint) for value in values]


def each(before: list[str], options: Any, values: Any) -> list[tuple[list[str], str]]:
    """A row for each option and value; the option has to be named."""
    return [([*before, option, value], option) for option, value in itertools.product(options, values)]


WORKLOAD = ["workload", "chunks_of_one_shard", "--target", "embedded", "-o", "new.json"]
SHARDS = ["workload", "chunks_of_many_shards", *WORKLOAD[2:]]
CROPS = ["workload", "random_crops", *WORKLOAD[2:]]
CREATE = ["data", "create", "--target", "embedded"]
OWN = [*CREATE, "--name", "new", "--shape", "16,16", "--chunks", "2,4", "--shards", "8,8"]
VERIFY = ["data", "verify", "--target", "embedded"]
COMPARE = ["compare", "=", "="]
NAMES = (
    "",
    ".",
    "..",
    "../up",
    "a/b/c",
    "tiny/../small",
    "/etc",
    "a\\b",
    "a b",
    LONG,
    "ä",
    "<script>",
    "a\nb",
    "-",
    "%2e",
)
NO_NUMBERS = ("-1", "1.5", "x", "nan", "")

COMMANDS = [
    # zcb data create
    *rows("name", [*OWN, "--name"], [*NAMES, "a/b"]),
    *rows("shape", [*OWN, "--shape"], ["0,16", "-8,16", "16", "16,16,16", "1e3,16", "nan,16", "", ",", "16;16", "16,"]),
    *rows("shape", [*OWN, "--shape"], ["12,16", f"{HUGE},16", "8" * 5000]),
    *rows("exceed", [*OWN, "--shape"], [f"{10**18},16"]),
    *rows("chunks", [*OWN, "--chunks"], ["0,4", "-2,4", "3,4", "2", "2,5", "16,16", f"{HUGE},{HUGE}"]),
    *rows("shards", [*OWN, "--shards"], ["0,8", "-8,8", "5,8", "8", "7,7", "32,32"]),
    *each(OWN, ["--dtype"], ["complex64", "object", ""]),
    *each(OWN, ["--codec", "--order"], ["lzma", ""]),
    *each(OWN, ["--in-flight"], ["0", HUGE, *NO_NUMBERS]),
    *rows("seed", [*OWN, "--seed"], [str(2**64), HUGE, *NO_NUMBERS]),
    ([*OWN, "--preset", "tiny"], "exclude each other"),
    *[
        ([*CREATE, "--preset", "tiny", option, value], f"--preset and {option} exclude each other")
        for option, value in (("--codec", "none"), ("--dtype", "int8"), ("--order", "c"), ("--seed", "1"))
    ],
    ([*CREATE, "--name", "new", "--shape", "4"], "also needs --chunks, --shards"),
    *rows("unknown preset", [*CREATE, "--preset"], ["../tiny", "", "TINY", LONG]),
    *rows("has no dataset", [*CREATE, "--preset", "tiny", "--dataset"], NAMES),
    *rows("is not the address", [*CREATE, "--preset", "tiny", "--dask"], ["", "nowhere", "ftp://x:1", "h:99999"]),
    ([*CREATE, "--preset", "tiny", "--dask", "h:1", "--measure-put-rate"], "leave it out with --dask"),
    (CREATE, "say what to write"),
    # zcb data verify
    *rows("name", [*VERIFY, "--dataset"], [*NAMES, "a\0b"]),
    *rows("holds no dataset", [*VERIFY, "--dataset"], ["absent", "tiny/absent"]),
    *rows("unknown preset", [*VERIFY, "--preset"], ["absent", "", "../tiny"]),
    ([*VERIFY, "--preset", "cloud"], "holds no datasets"),
    # zcb workload
    *rows("name", [*WORKLOAD, "--dataset"], NAMES),
    *rows("holds no dataset", [*WORKLOAD, "--dataset"], ["absent", "tiny/absent"]),
    *rows("gap", [*WORKLOAD, "--gap"], [HUGE, *NO_NUMBERS]),
    *rows("chunks", [*WORKLOAD, "--chunks"], ["0", HUGE, *NO_NUMBERS]),
    *rows("shards", [*SHARDS, "--shards"], ["0", "65", HUGE, *NO_NUMBERS]),
    *rows("crop", [*CROPS, "--crop"], ["0,1,1", "-1,1,1", "1,1", "1,1,1,1", f"{HUGE},1,1", "x", "", "nan,1,1"]),
    *rows("crops", [*CROPS, "--crops"], ["0", HUGE, *NO_NUMBERS]),
    *rows("concurrent", [*CROPS, "--concurrent-reads"], ["0", "10001", HUGE, *NO_NUMBERS]),
    *rows("seed", [*CROPS, "--seed"], [HUGE, str(2**64), *NO_NUMBERS]),
    *rows("flight", [*WORKLOAD, "--in-flight"], ["0", "10001", HUGE, *NO_NUMBERS]),
    *rows("-o", [*WORKLOAD, "-o"], [DIRECTORY, f"{BINARY}/new.json", "", ".", "x" * 5000 + "/x"]),
    *rows("cannot write", [*WORKLOAD, "-o"], ["/proc/new.json", LONG]),
    *rows("unknown pattern", ["workload"], ["", "whole", "../whole_array", "WHOLE_ARRAY", LONG], WORKLOAD[2:]),
    ([*CROPS, "--gap", "1"], "has no parameter 'gap'"),
    (["workload", "headline_3004", "--dataset", "small", *WORKLOAD[2:]], "does not suit"),
    (["workload", "whole_array", "-o", "new.json"], "--target"),
    # zcb read
    *rows("unknown reader", ["read"], ["", "nope", "zarrs,nope", ",", "zarrs,", "../zarrs", LONG], ["w.json"]),
    (["read", "network-limit+rust", "w.json"], "ask for `network-limit`"),
    (["read", "zarrs,tensorstore", "w.json", "--timeline", "new.json"], "a timeline is of one reader"),
    *each(["read", "zarrs", "w.json"], ["--samples"], ["0", HUGE, *NO_NUMBERS]),
    *each(["read", "zarrs", "w.json"], ["--pairs"], [HUGE, *NO_NUMBERS]),
    *each(["read", "zarrs", "w.json"], ["--timeline"], [DIRECTORY, f"{BINARY}/t.json"]),
    *[(["read", "zarrs", name], name) for name in NO_FILES],
    # zcb limit, zcb sweep, zcb project
    *each(["limit", "w.json"], ["--samples", "--sessions"], ["0", HUGE, *NO_NUMBERS]),
    (["limit", "w.json", "--samples", "2", "--sessions", "3"], "cannot be spread over"),
    *each(["sweep", "in-flight", "w.json"], ["--values"], ["0", HUGE, "1,", ",", *NO_NUMBERS]),
    *each(["sweep", "in-flight", "w.json"], ["--samples", "--sessions"], ["0", HUGE, *NO_NUMBERS]),
    *each(["sweep", "in-flight", "w.json"], ["--output"], [DIRECTORY, f"{BINARY}/x.svg"]),
    *each(["sweep", "in-flight", "w.json"], ["--patience"], ["-1", "inf", "nan", "x", ""]),
    *rows("unknown reader", ["sweep", "in-flight", "w.json", "--readers"], ["", "nope", "zarrs,", LONG]),
    (["sweep", "in-flight", "w.json", "--values", ",".join(map(str, range(1, 60)))], "59 values are more than 40"),
    (["sweep", "in-flight", "w.json", "--samples", "2", "--sessions", "3"], "cannot be spread over"),
    (["sweep", "in-flight", "w.json", "-o", "x.png"], "does not end with .svg"),
    (["sweep", "in-flight", "w.json", "--config", "x.conf.json"], "give both"),
    (["sweep", "in-flight", "w.json", "--keep", "--config", "x.conf.json"], "no asv configuration x.conf.json"),
    (["sweep", "in-flight", "w.json", "--readers", "network-limit-thrown-away"], "ask for `network-limit`"),
    *each(["sweep", "gap", "w.json"], ["--gaps"], ["-1", HUGE, *NO_NUMBERS]),
    *each(["sweep", "gap", "w.json"], ["--first-byte-ms", "--connection-mb-s"], ["0", HUGE, *NO_NUMBERS]),
    (["sweep", "gap", "w.json", "-o", "x.png"], "does not end with .svg"),
    *[(["sweep", kind, name], name) for kind in ("in-flight", "gap") for name in NO_FILES],
    *[(["project", name, "--cores", "2", "--link-gbit-s", "1"], name) for name in NO_FILES],
    *each(
        ["project", BINARY, "--cores", "2", "--link-gbit-s", "1"],
        ["--cores", "--link-gbit-s", "--first-byte-ms", "--connection-mb-s"],
        ["0", "-1", "inf", "nan", "x", ""],
    ),
    *each(["project", BINARY, "--cores", "2", "--link-gbit-s", "1"], ["--in-flight"], ["0", HUGE, *NO_NUMBERS]),
    *each(
        ["project", BINARY, "--cores", "2", "--link-gbit-s", "1"],
        ["--cores", "--link-gbit-s", "--first-byte-ms", "--connection-mb-s"],
        ["1e-308", "1e300"],
    ),
    *each(["project", BINARY, "--cores", "2", "--link-gbit-s", "1"], ["--requests-per-second-per-prefix"], ["-1", "x"]),
    (["project", BINARY, "--cores", "2"], "say how fast the link is"),
    (["project", BINARY, "--cores", "2", "--link-gbit-s", "1", "--vm", "c6in.32xlarge"], "say how fast the link is"),
    # zcb timeline
    *[(["timeline", name], name) for name in NO_FILES],
    *rows("--format", ["timeline", EMPTY, "--format"], ["gif", ""]),
    (["timeline", EMPTY, EMPTY], "draws one timeline"),
    (["timeline"], "TIMELINE"),
    # zcb table
    *[(["table", "--config", name], name) for name in NO_FILES],
    *rows("metric", ["table", "--metric"], ["speed", "", LONG]),
    *each(["table"], ["--by"], ["version", ""]),
    (["table", "--by", "commit", "--commit", "x"], "neither"),
    # zcb history
    *rows("release", ["history", "-o", "new", "--releases"], ["", ",", "x", "../3.2.1", "3.2.1 ; ls", "3.2.1,$(id)"]),
    (["history", "--releases", "3.2.1", "-o", BINARY], BINARY),
    # zcb wheels
    *[(["wheels", "--repo", name, "-o", "new"], f"{name} is no repository") for name in (BINARY, MISSING, "--help")],
    # zcb compare, zcb pr
    *each(COMPARE, ["--seconds"], ["0", "-1", "x", "nan", "inf", ""]),
    *each(COMPARE, ["--smallest"], ["0", "101", "-1", "x", "nan", "inf", ""]),
    *each(COMPARE, ["--seed"], ["x", "1.5"]),
    *each(COMPARE, ["--markdown", "--html"], [DIRECTORY, f"{BINARY}/x"]),
    *rows("reader", [*COMPARE, "--readers"], ["nope", "../zarrs"]),
    *rows("pattern", [*COMPARE, "--patterns"], ["nope", "random_crop"]),
    *rows("name=value", [*COMPARE, "--base-config"], ["x", "=1", "a="]),
    *rows("NUMBER", ["pr"], ["0", "x", "1.5", ""]),
    (["pr", "1", "--repo", MISSING], "neither a directory nor a URL"),
    *rows("is not a directory", ["compare", "="], ["/nope", "./nope", "../nope/x"], ["--repo", DIRECTORY]),
    *rows("is not a revision", ["compare", "="], [""], ["--repo", DIRECTORY]),
    (["compare", "=", "crate:"], "is not a revision"),
    (["compare", "=", "crate:/nope"], "is not a directory"),
    *rows("python9.9", ["compare"], ["python:3.13"], ["python:9.9"]),
    *rows("version", ["compare"], ["zarr==3.*", "zarr>=3", "a=b=c"], ["=", "--patterns", "chunks_of_one_shard"]),
    # the rest
    (["netns"], "COMMAND"),
    (["netns", "--", "no-such-command"], "no-such-command"),
    (["store", "pause"], "No such command"),
    (["doctor", "--fast"], "--fast"),
    (["nonsense"], "No such command"),
    (["--nonsense"], "--nonsense"),
]


@pytest.mark.parametrize(("arguments", "complaint"), COMMANDS, ids=lambda value: repr(value)[-60:])
def test_commands(zcb, arguments, complaint):
    code, line = zcb(*arguments)
    assert code == 2, line
    assert complaint in line


START = [
    *each([], ["--first-byte-ms", "--connection-mb-s", "--link-gbit-s"], ["-1", "x", "nan", "inf", ""]),
    *each([], ["--first-byte-p99-ms"], ["-1", "x", "nan", "inf", "5"]),
    *each([], ["--port"], ["65536", HUGE, *NO_NUMBERS]),
    *each([], ["--seed"], [HUGE, *NO_NUMBERS]),
    *each([], ["--profile"], ["s4", ""]),
    *each([], ["--link"], ["eth0", ""]),
    *rows(BINARY, ["--root"], [BINARY, f"{BINARY}/below"]),
    (["--auth"], "AWS_ACCESS_KEY_ID"),
    (["surplus"], "surplus"),
]


@pytest.mark.parametrize(("arguments", "complaint"), START, ids=lambda value: repr(value)[-60:])
def test_the_store_is_not_started(zcb, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    code, line = zcb("store", "start", *arguments)
    assert (code, state.running()) == (2, None), line
    assert complaint in line


def test_a_state_directory_that_is_a_file(zcb, monkeypatch):
    monkeypatch.setenv("ZCB_STATE_DIR", BINARY)
    for command in (["store", "start"], ["store", "stop"]):
        code, line = zcb(*command)
        assert code == 2
        assert "state directory" in line


# --- files that a person writes

CASES = """\
presets = ["tiny"]
[chunks_of_one_shard]
axes = ["dataset", "gap"]
verdict_seconds = 180
round_seconds = 20
"""

TARGETS = {
    "": "names none",
    "[x": "targets.toml",
    "\xff": "targets.toml",
    "x = 1": "targets.toml",
    "[x]": "url",
    '[x]\nurl = ""': "s3://",
    "[x]\nurl = 1": "url",
    '[x]\nurl = ["s3://b"]': "url",
    '[x]\nurl = "s3://b"\nkey = "k"': "key",
    '[x]\nurl = "s3://b"\nsecret_access_key = "k"': "secret_access_key",
    '[x]\nurl = "s3://b"\nanonymous = "yes"': "anonymous",
    '[x]\nurl = "s3://b"\nregion = 1': "region",
    '[x]\nurl = "s3://b"\n[x]\nurl = "s3://c"': "targets.toml",
    '[x]\nurl = "s3://"': "s3://",
    '[x]\nurl = "ftp://b"': "s3://",
    '[x]\nurl = "/tmp/data"': "s3://",
    '[x]\nurl = "s3://b#part"': "s3://",
    '[x]\nurl = "s3://b?key=k"': "credentials come from",
    '[x]\nurl = "s3://me:planted@b"': "credentials come from",
    '[x]\nurl = "s3://b"\nendpoint = "http://me:planted@127.0.0.1:9"': "credentials come from",
    '[x]\nurl = "s3://b"\nendpoint = "http://127.0.0.1:9?sig=planted"': "credentials come from",
}


@pytest.mark.parametrize("text", TARGETS)
def test_targets(zcb, tmp_path, monkeypatch, text):
    (tmp_path / "targets.toml").write_bytes(text.encode("latin-1"))
    monkeypatch.setenv("ZCB_TARGETS", str(tmp_path / "targets.toml"))
    for command in (
        ["workload", "whole_array", "-o", "new.json"],
        ["data", "verify"],
        ["data", "create", "--preset", "tiny"],
    ):
        code, line = zcb(*command, "--target", "x")
        assert code == 2, line
        assert TARGETS[text] in line
        assert "planted" not in line


WRONG_CASES = {
    "": "presets",
    "[x": "workloads.toml",
    "\xff": "workloads.toml",
    "presets = []": "no case",
    'presets = "tiny"': "presets",
    "presets = []\n[nope]": "unknown pattern 'nope'",
    "presets = []\n[whole_array]": "whole_array: Object missing required field",
    "whole_array = 1\npresets = []": "whole_array",
    CASES + "cases = 1": "cases",
    CASES + "cases = [1]": "cases[0]",
    CASES + "axis = []\ncases = []": "axis",
    CASES + "cases = [{}]": "case 1: Object missing required field `dataset`",
    CASES + 'cases = [{ dataset = "small", uses = ["verdicts"] }]': "verdicts",
    CASES + 'cases = [{ dataset = "small", pairs = 3 }]': "pairs",
    CASES + 'cases = [{ dataset = "small", pattern = "whole_array" }]': "another pattern",
    CASES + 'cases = [{ dataset = "small", timeline = { name = "x" } }]': "pairs",
    CASES
    + 'cases = [{ dataset = "small", parameters = { shards = 1 } }]': "case 1: the pattern has no parameter 'shards'",
    CASES + 'cases = [{ dataset = "small", parameters = { gpa = 1 } }]': "case 1: the pattern has no parameter 'gpa'",
    CASES + 'cases = [{ dataset = "small", parameters = { gap = "1" } }]': "gap",
    CASES + 'cases = [{ dataset = "small", parameters = { gap = -1 } }]': "gap must be 0 or more",
    CASES + 'cases = [{ dataset = "small", uses = ["asv"] }]': "has no 'gap'",
    CASES + 'cases = [{ dataset = "small" }, { dataset = "small" }]': "stands there twice",
    CASES.replace("gap", "shards") + "cases = []": "no parameter 'shards', so it is no axis",
    CASES.replace("180", "0") + "cases = []": "verdict_seconds",
    CASES.replace("= 20", "= 0") + "cases = []": "round_seconds",
    CASES + 'cases = [{ dataset = "small", parameters = { gap = 1 } }]': "names no case with the use",
}


@pytest.mark.parametrize("text", WRONG_CASES)
def test_cases(zcb, tmp_path, monkeypatch, text):
    (tmp_path / "workloads.toml").write_bytes(text.encode("latin-1"))
    monkeypatch.setenv("ZCB_WORKLOADS", str(tmp_path / "workloads.toml"))
    for command in (COMPARE, [*COMPARE, "--quick"], ["soak", "--minutes", "0"]):
        code, line = zcb(*command)
        assert code == 2, line
        assert WRONG_CASES[text] in line


@pytest.mark.parametrize("name", NO_FILES)
def test_a_file_of_cases_that_is_none(zcb, monkeypatch, name):
    monkeypatch.setenv("ZCB_WORKLOADS", name)
    code, line = zcb(*COMPARE)
    assert code == 2
    assert name in line


@pytest.mark.parametrize("name", NO_FILES)
def test_a_targets_file_that_is_none(zcb, monkeypatch, name):
    monkeypatch.setenv("ZCB_TARGETS", name)
    code, line = zcb(*VERIFY[:2], "--target", "x")
    assert code == 2
    assert name in line


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x:y",
        "embedded:s4",
        "embedded:loopback+eth0",
        "s3://",
        "s3:///x",
        "ftp://b",
        "file:///etc",
        "s3://k:planted@b",
        "s3://b?sig=planted",
    ],
)
def test_names_of_targets(zcb, name):
    code, line = zcb(*VERIFY[:2], "--target", name)
    assert code == 2, line
    assert "planted" not in line


@pytest.fixture(scope="module")
def good(place):
    """A workload file's fields."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZCB_PRESET", "tiny")
        made = create_workload("chunks_of_one_shard", resolve("embedded"), parameters=Parameters(gap=1))
    return msgspec.to_builtins(made)


WORKLOADS: dict[str, Any] = {
    "schema": [None, 0, 2, "1", 1.5, [1], -1],
    "pattern": [None, 1, []],
    "parameters": [None, 1, {"gap": "x"}],
    "in_flight": [None, 0, -1, 10001, 10**30, "100", 1.5, []],
    "concurrent_reads": [None, 0, -1, 10001, 10**30, "1"],
    "array_bytes": [None, 0, -1, 1, 10**18, 10**30, "x"],
    "wanted_chunks": [None, "x"],
    "reads": [
        None,
        [],
        [[]],
        "x",
        [1],
        [[[0, 1]]],
        [[[0, 1, 1]]],
        [[[0, 1, 1]] * 4],
        [[[0, 1, 1, 1]] * 3],
        [[[0, 64, 1], [0, 16, 1], [0, 129, 1]]],
        [[[-1, 1, 1], [0, 16, 1], [0, 16, 1]]],
        [[[1, 1, 1], [0, 16, 1], [0, 16, 1]]],
        [[[2, 1, 1], [0, 16, 1], [0, 16, 1]]],
        [[[0, 1, 0], [0, 16, 1], [0, 16, 1]]],
        [[[0, 1, -1], [0, 16, 1], [0, 16, 1]]],
        [[[0, 10**30, 1], [0, 16, 1], [0, 16, 1]]],
        [[[0.5, 1, 1], [0, 16, 1], [0, 16, 1]]],
    ],
    "array": [None, {}, []],
    "array.key": [None, 1, "../up", "tiny/../../up", "a\0b", "a\nb", ".."],
    "array.shape": [None, [], [64], [64, 128, 0], [64, 128, -128], [10**30, 128, 128], "64,128,128", [64, 128, 128, 1]],
    "array.chunk_shape": [None, [], [1, 16], [0, 16, 16], [-1, 16, 16], [3, 16, 16], [1, 5, 16], [10**30, 1, 1]],
    "array.shard_shape": [None, [], [64, 16], [0, 16, 16], [64, -16, 16], [10**30, 1, 1]],
    "array.dtype": [None, "x", "object", "", "S4", "datetime64[s]"],
    "target": [None, {}, "s3://bench"],
    "target.url": [None, 1, "s3://k:planted@bench", "s3://bench?sig=planted"],
    "target.endpoint": [1, "http://k:planted@127.0.0.1:9"],
    "target.secret": ["planted"],
    "truth": [None, {}, {"decoded_crc32c": "AAAA", "reads_crc32c": "AAAA"}],
    "truth.decoded_crc32c": ["%", "AAA", 1, "AAAA"],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in WORKLOADS.items() for value in values],
    ids=lambda value: repr(value)[:40],
)
def test_workloads(zcb, good, place, listed, field, value):
    fields = json.loads(json.dumps(good))
    *path, last = field.split(".")
    holder = fields
    for name in path:
        holder = holder[name]
    holder[last] = value
    (place / "bad.json").write_text(json.dumps(fields))
    code, line = zcb("read", "zarr-python+obstore", "bad.json")
    assert code == 2, line
    assert "bad.json" in line or "credentials come from" in line
    assert "planted" not in line


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"1", b"[]", b"{}", b'"x"', b"{", b"\xff\xfe", b"[" * 100_000, b'{"schema":NaN}', b'{"schema":1}'],
)
def test_json_that_is_no_workload_and_no_timeline(zcb, place, text):
    (place / "bad.json").write_bytes(text)
    for command in (["read", "zarrs", "bad.json"], ["timeline", "bad.json"]):
        code, line = zcb(*command)
        assert code == 2, line
        assert "bad.json" in line


WHEELS = {
    "x = 1": "wheels.toml",
    "[x": "wheels.toml",
    '["3.2"]': "commit",
    '["3.2"]\ncommit = 1': "commit",
    '["3.2"]\ncommit = "--upload-pack=touch x"': "commit",
    f'["3.2"]\ncommit = "{"0" * 39}"': "commit",
    f'["3.2"]\ncommit = "{"0" * 40}"\nname = "x"': "name",
    f'["../../3.2"]\ncommit = "{"0" * 40}"': "3.2",
    f'["x"]\ncommit = "{"0" * 40}"': "x",
    f'[" 3.2"]\ncommit = "{"0" * 40}"': "3.2",
    "\xff": "wheels.toml",
}


@pytest.mark.parametrize("text", WHEELS)
def test_wheels(tmp_path, text):
    file = tmp_path / "wheels.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadUseError) as error:
        wheels.planned(file)
    assert WHEELS[text] in str(error.value)
    assert "\n" not in str(error.value)


# --- the programs in Rust

RATES = ("--first-byte-ms", "--first-byte-p99-ms", "--connection-mb-s", "--link-gbit-s")
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what has to be refused


@pytest.mark.parametrize(
    "arguments",
    [
        *map(list, itertools.product(RATES, ("-1", "nan", "inf", "x", ""))),
        *(["--port", value] for value in ("65536", HUGE, *NO_NUMBERS)),
        *(["--seed", value] for value in (HUGE, *NO_NUMBERS)),
        *(["--bind", value] for value in (EVERYWHERE, "::", "192.0.2.1", "localhost", "x", "")),
        *(["--control-bind", value] for value in (EVERYWHERE, "::", "x")),
        *(["--root", value] for value in (*NO_FILES[1:], f"{BINARY}/x", "")),
        ["--profile", "s4"], ["--auth"], ["surplus"], ["--nonsense"],
    ],
    ids=repr,
)  # fmt: skip
def test_the_store_program(store_binary, place, arguments):
    root = [] if "--root" in arguments else ["--root", DIRECTORY]
    done = subprocess.run(
        [store_binary, *root, *arguments], cwd=place, env={}, capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("s3-store: ")


@pytest.mark.parametrize(
    "arguments",
    [
        *(["run", name] for name in NO_FILES),
        *(["run", "good.json", "--samples", value] for value in ("0", HUGE, *NO_NUMBERS)),
        *(["run", "good.json", "--part-bytes", value] for value in ("0", HUGE, *NO_NUMBERS)),
        *(["run", "good.json", "--max-gap-bytes", value] for value in (HUGE, *NO_NUMBERS)),
        ["run", "good.json", "--engine", "x"], ["run", "good.json", "--dump", f"{BINARY}/x"], ["run"], ["walk"], [],
    ],
    ids=repr,
)  # fmt: skip
def test_the_reader_program(rust_reader, place, good, arguments):
    (place / "good.json").write_text(json.dumps(good))
    done = subprocess.run([rust_reader, *arguments], cwd=place, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    *talk, line = done.stderr.strip().splitlines()
    assert all("sample" in one for one in talk)
    assert line.startswith("zarrs-reader: ")


# --- what may stand in a store

SPEC = make_spec(name="damaged", shape=(8, 8, 8), chunk_shape=(1, 8, 8), shard_shape=(8, 8, 8))
ZARRAY = (
    b'{"zarr_format":2,"shape":[8],"chunks":[4],"dtype":"<u2","compressor":null,'
    b'"fill_value":0,"order":"C","filters":null}'
)
PLAIN = (
    b'{"zarr_format":3,"node_type":"array","shape":[%b],"data_type":"uint16","chunk_grid":{"name":"regular",'
    b'"configuration":{"chunk_shape":[4]}},"chunk_key_encoding":{"name":"default","configuration":{"separator":"/"}},'
    b'"fill_value":0,"codecs":[{"name":"bytes","configuration":{"endian":"little"}}],"attributes":{}}'
)
STORED = {
    "a v2 array": ({"/zarr.json": None, ".manifest": None, "/.zarray": ZARRAY}, 2, "holds no dataset"),
    "an array without a manifest": ({".manifest": None}, 2, "holds no dataset"),
    "a plain array": ({".manifest": None, "/zarr.json": PLAIN % b"8"}, 2, "holds no dataset"),
    "an empty array": ({".manifest": None, "/zarr.json": PLAIN % b"0"}, 2, "holds no dataset"),
    "no metadata": ({"/zarr.json": None}, 2, "is unfinished"),
    "an empty manifest": ({".manifest": b""}, 2, "manifest is damaged"),
    "a manifest that is none": ({".manifest": bytes(range(256))}, 2, "manifest is damaged"),
    "no shard": ({"/c/0/0/0": None}, 3, "c/0/0/0"),
    "an empty shard": ({"/c/0/0/0": b""}, 3, "InvalidRange"),
    "a shard of another size": ({"/c/0/0/0": bytes(1000)}, 4, "shard index"),
}


@pytest.fixture
def damaged(place):
    """What changes objects of one dataset (None removes one); it is whole again afterwards."""
    store = open_store(resolve("embedded"))

    def change(objects):
        write.write(store, SPEC, overwrite=True)
        for suffix, body in objects.items():
            if body is None:
                obstore.delete(store, SPEC.key + suffix)
            else:
                obstore.put(store, SPEC.key + suffix, body)

    yield change
    obstore.delete(store, f"{SPEC.key}/.zarray")
    write.remove(store, SPEC)


@pytest.mark.parametrize("name", STORED)
def test_what_stands_in_the_store(zcb, damaged, name):
    change, expected, complaint = STORED[name]
    damaged(change)
    code, line = zcb(*WORKLOAD, "--dataset", "custom/damaged")
    assert code == expected, line
    assert complaint in line


def test_an_array_that_was_replaced_after_the_workload_was_made(zcb, damaged, place):
    damaged({})
    made = create_workload("chunks_of_one_shard", resolve("embedded"), dataset="custom/damaged")
    (place / "w.json").write_bytes(workloads.encode(made))
    damaged({"/zarr.json": None, "/.zarray": ZARRAY})
    code, line = zcb("read", "zarr-python+obstore", "w.json")
    assert (code, "damaged/zarr.json" in line) == (3, True), line
