"""A run on a cloud's VM, without a cloud: its steps in order, and a machine that goes down whatever happens.

`shutdown`, `systemctl` and `make` are programs of the tests' own, put before the real ones; `make` leaves what asv
would.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import obstore
import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner
from obstore.store import S3Store

from harness.asv import configurations, plain, tracked
from harness.asv import recorded as timeline_pass
from harness.cli import zcb
from harness.cloud.home import bring_home
from harness.errors import BadUseError
from harness.paths import ROOT
from harness.results.sample import NETWORK_LIMIT
from harness.store import lifecycle
from harness.store.lifecycle import StoreSettings
from harness.workload.cases import Case, Recording
from setup_data.cli import data
from tests.support import passes
from tests.support.waiting import wait_for

RUN = ROOT / "cloud" / "run.sh"
SKY = ROOT / "cloud" / "sky.yaml"
CLOUD_INIT = ROOT / "cloud" / "cloud-init.yaml"
CONFIGS = list(configurations.FILES)
STEPS = ["arm", "install", "check", "cost", "data", "warm", "bench", "throughput"]


def load(path):
    return yaml.safe_load(path.read_text())


def settings_of_run():
    return set(re.findall(r'^: "\$\{(\w+):?[?=]', RUN.read_text(), re.MULTILINE))


@pytest.fixture
def programs(tmp_path):
    """A folder of programs that note how they were called, and what they noted."""
    return Programs(tmp_path / "programs")


class Programs:
    def __init__(self, folder):
        self.folder, self.log = folder, folder / "calls.txt"
        folder.mkdir()
        self.log.touch()
        for name in ("shutdown", "systemctl", "make"):
            self.add(name)
        self.add("sudo", 'shift; exec "$@"')

    def add(self, name, then="exit 0", interpreter="/bin/sh"):
        path = self.folder / name
        note = f'echo "{name} $*" >> {self.log}\n' if name != "sudo" else ""
        path.write_text(f"#!{interpreter}\n{note if interpreter == '/bin/sh' else ''}{then}\n")
        path.chmod(0o755)

    @property
    def calls(self):
        """How they were called, without the doctor's questions after versions."""
        return [call for call in self.log.read_text().splitlines() if not call.endswith("--version")]

    def environment(self, **settings):
        path = os.pathsep.join([str(self.folder), str(Path(sys.executable).parent), os.environ["PATH"]])
        plain = {name: value for name, value in os.environ.items() if name not in settings_of_run()}
        return {**plain, "PATH": path, "ZCB_VM": "c6in.32xlarge", "ZCB_PRESET": "tiny", **settings}


def cloud_run(programs, *steps, **settings):
    return subprocess.run(
        [str(RUN), *steps],
        cwd=programs.folder,
        env=programs.environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def reached(done):
    return re.findall(r"^\[cloud [\d:]+\] step (\w+)$", done.stdout, re.MULTILINE)


def test_the_task_of_skypilot():
    task = load(SKY)
    assert [entry["infra"].partition("/")[0] for entry in task["resources"]["ordered"]] == ["aws", "aws", "gcp"]
    assert task["resources"]["autostop"]["down"] is True
    assert set(task["envs"]) <= settings_of_run()
    assert task["envs"]["ZCB_SHUTDOWN"] == "late"
    assert "cloud/run.sh arm install" in task["setup"]
    assert task["run"].strip() == "cloud/run.sh"


def test_its_vms_have_prices_in_the_regions_named():
    prices = (ROOT / "cloud" / "prices.toml").read_text()
    for entry in load(SKY)["resources"]["ordered"]:
        row = prices.partition(f'type = "{entry["instance_type"]}"')[2].partition("[[")[0]
        assert f'region = "{entry["infra"].partition("/")[2]}"' in row, entry


def skypilot():
    """Return a Python that has SkyPilot, which is too large for this project's own environment."""
    named = os.environ.get("ZCB_SKYPILOT_PYTHON")
    if named:
        return named
    pytest.skip("no SkyPilot: install it into an environment of its own and name its python in ZCB_SKYPILOT_PYTHON")


FROM_YAML = """
import csv, pathlib, sys, tomllib, yaml
prices = tomllib.loads(pathlib.Path(sys.argv[2]).read_text())["vm"]
head = "InstanceType AcceleratorName AcceleratorCount vCPUs MemoryGiB GpuInfo Price SpotPrice Region "
head += "AvailabilityZone Arch"
for cloud in ("aws", "gcp"):  # its catalogue, which it would fetch, holds the VMs of our table
    folder = pathlib.Path.home() / ".sky" / "catalogs" / "v8" / cloud
    folder.mkdir(parents=True)
    with open(folder / "vms.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(head.split())
        for row in prices:
            if row["cloud"] == cloud:
                price, zone = row["dollars_per_hour"], row["region"] + "-a"
                rows.writerow([row["type"], "", "", 64, 128, "", price, price, row["region"], zone, "x86_64"])
    (folder / "images.csv").write_text("Tag,Region,OS,OSVersion,ImageId,CreationDate,Deprecated\\n")
import sky
config = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())
task = sky.Task.from_yaml_config(config, env_overrides=[("ZCB_TARGET", "s3://bucket/prefix")])
print([(str(r.cloud), r.region, r.instance_type, r.autostop_config.down) for r in task.resources])
try:
    sky.Task.from_yaml(sys.argv[1])
except ValueError as error:
    print(error)
"""


def test_skypilot_takes_the_task(tmp_path):
    command = [skypilot(), "-c", FROM_YAML, str(SKY), str(ROOT / "cloud" / "prices.toml")]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    resources, without_target = done.stdout.strip().splitlines()[-2:]
    assert resources == str(
        [
            ("AWS", "us-east-1", "c6in.32xlarge", True),
            ("AWS", "us-east-1", "c7gn.16xlarge", True),
            ("GCP", "us-central1", "c3d-highcpu-180", True),
        ]
    )
    assert "ZCB_TARGET" in without_target  # it has to be given


def user_data():
    """Return cloud-init's user data, and the files that it writes."""
    found = load(CLOUD_INIT)
    return found, {file["path"]: file for file in found["write_files"]}


def test_the_user_data_of_cloud_init():
    assert CLOUD_INIT.read_text().startswith("#cloud-config\n")
    data, files = user_data()
    assert data["bootcmd"][0][0] == "systemd-run"  # the deadline comes before anything that could hang
    assert data["bootcmd"][0][-2:] == ["systemctl", "poweroff"]
    assert data["runcmd"] == [["/usr/local/sbin/zarr-cloud-bench"]]
    settings = dict(line.split("=", 1) for line in files["/etc/zarr-cloud-bench.env"]["content"].splitlines())
    assert set(settings) - {"ZCB_REPOSITORY"} <= settings_of_run()
    assert settings["ZCB_SHUTDOWN"] == "yes"
    deadline = int(data["bootcmd"][0][2].removeprefix("--on-active=").removesuffix("h"))
    assert float(settings["ZCB_HOURS"]) < deadline


@pytest.mark.skipif(shutil.which("cloud-init") is None, reason="no cloud-init: the package cloud-init has it")
def test_cloud_init_takes_the_user_data():
    command = ["cloud-init", "schema", "--config-file", str(CLOUD_INIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("works", [True, False])
def test_the_vm_goes_down_whether_the_repository_is_there_or_not(programs, tmp_path, works):
    checkout, settings = tmp_path / "checkout", tmp_path / "settings.env"
    _, files = user_data()
    settings.write_text(files["/etc/zarr-cloud-bench.env"]["content"])
    script = files["/usr/local/sbin/zarr-cloud-bench"]["content"]
    script = script.replace("/etc/zarr-cloud-bench.env", str(settings)).replace("/opt/zarr-cloud-bench", str(checkout))
    fake = f'mkdir -p {checkout}/cloud; printf "#!/bin/sh\\nenv > {tmp_path}/env.txt" > {checkout}/cloud/run.sh'
    programs.add("git", f"{fake}; chmod +x {checkout}/cloud/run.sh" if works else "exit 128")
    done = subprocess.run(["bash", "-c", script], env=programs.environment(), capture_output=True, check=False)
    assert (done.returncode == 0) == works
    assert programs.calls[-1] == "systemctl poweroff"
    if works:
        assert "ZCB_SHUTDOWN=yes" in (tmp_path / "env.txt").read_text()


def test_the_scripts_are_clean(tmp_path):
    shellcheck = shutil.which(
        "shellcheck", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if shellcheck is None:
        pytest.skip("no shellcheck: it comes with `make`")
    inner = tmp_path / "user-data.sh"
    inner.write_text(user_data()[1]["/usr/local/sbin/zarr-cloud-bench"]["content"])
    done = subprocess.run(
        [shellcheck, "--exclude=SC1091", str(RUN), str(inner)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


LEAVE_RESULTS = """
import json, pathlib, sys
call = sys.argv[1:]
with open({log!r}, "a") as log:
    print("make", *call, file=log)
if call[0] == "measure":
    conf = json.loads(pathlib.Path(call[1].removeprefix("CONFIG=")).read_text())
    folder = pathlib.Path(conf["results_dir"]) / "box" / "passes"
    folder.mkdir(parents=True)
    (folder / "one.pass").write_text({record!r})
    page = pathlib.Path(conf["html_dir"]) / "index.html"
    page.parent.mkdir()
    page.write_text("a page")
    sys.exit({code})
"""


@pytest.fixture
def state(own_state, programs):
    """The embedded store, running in a state directory of its own; asv's part is played by `make`."""
    lifecycle.start(StoreSettings(profile="loopback"))
    programs.add("make", left_by_asv(programs, code=0), interpreter=sys.executable)
    return own_state


def left_by_asv(programs, code):
    record = msgspec.json.encode(passes.run(rounds=2)[0]).decode()
    return LEAVE_RESULTS.format(log=str(programs.log), record=record, code=code)


@pytest.fixture
def settings(tmp_path):
    """Settings with a configuration that needs no releases."""
    conf = json.loads((ROOT / "asv.releases.conf.json").read_text())
    path = tmp_path / "source.conf.json"
    path.write_text(json.dumps(conf | {"repo": "https://example.org/zarr.git"}))
    return {"ZCB_TARGET": "embedded:loopback", "ZCB_CONFIG": str(path), "ZCB_SHUTDOWN": "yes"} | {
        "ZCB_ALSO": "",
        "ZCB_WARM": "100",
        "ZCB_STREAM_GIB": "0.004",
        "ZCB_STREAM_READERS": "network-limit,zarrs-planned",
        "ZCB_STREAM_SAMPLES": "1",
        "ZCB_SWEEP_READERS": "network-limit",
        "ZCB_SWEEP_VALUES": "100,400",
    }


@pytest.mark.timeout(900)
def test_a_run_from_beginning_to_end(programs, state, settings, tmp_path):
    home = tmp_path / "home"
    done = cloud_run(programs, **settings, ZCB_HOME=str(home))
    assert done.returncode == 0, done.stdout + done.stderr
    assert reached(done) == STEPS
    conf = state / "cloud" / "asv.conf.json"
    assert programs.calls == [
        "shutdown -P +180",
        "make .venv/.ready rust",
        f"make measure CONFIG={conf} SAMPLES=21 SECONDS=20",
        "shutdown -P now",
    ]
    (brought,) = home.iterdir()
    names = {str(path.relative_to(brought)) for path in brought.rglob("*") if path.is_file()}
    throughput = {f"throughput/{name}" for name in ("read.json", "sweep.json", "sweep.svg")}
    assert names == {"results/box/passes/one.pass", "html/index.html", "log.txt", "cost.txt"} | throughput
    read, sweep = (json.loads((brought / "throughput" / f"{name}.json").read_text()) for name in ("read", "sweep"))
    assert [row["reader"] for row in read] == ["network-limit", "zarrs-planned"]
    assert [(row["workload"]["pattern"], row["workload"]["in_flight"]) for row in read] == [("stream", 400)] * 2
    assert [value["in_flight"] for value in sweep["readers"][0]["values"]] == [100, 400]
    assert "Dollars per TiB" in (brought / "cost.txt").read_text()
    assert json.loads(conf.read_text())["matrix"]["env_nobuild"]["ZCB_TARGET"] == ["embedded:loopback"]
    assert CliRunner().invoke(data, ["verify", "--target", "embedded", "--preset", "tiny"]).exit_code == 0
    # Once more: the data sets are used as they are, and what was measured is kept.
    again = cloud_run(programs, "data", **settings)
    assert again.returncode == 0
    assert again.stdout.count("already written") == 4


def test_a_row_that_failed_does_not_cost_the_others_their_figures(programs, state, settings, tmp_path):
    programs.add("make", left_by_asv(programs, code=2), interpreter=sys.executable)
    home = tmp_path / "home"
    done = cloud_run(programs, "bench", "home", **settings, ZCB_HOME=str(home))
    assert done.returncode == 2
    assert "FAILED in step bench (exit code 2)" in done.stdout
    assert "Dollars per TiB" in (state / "cloud" / "cost.txt").read_text()
    assert programs.calls[-1] == "shutdown -P now"


@pytest.fixture
def written(state):
    """Data sets that the steps after `data` read."""
    assert CliRunner().invoke(data, ["create", "--target", "embedded", "--preset", "tiny"]).exit_code == 0


def test_steps_after_a_row_that_failed_are_done_and_the_run_fails(programs, state, settings, written):
    programs.add("make", left_by_asv(programs, code=2), interpreter=sys.executable)
    done = cloud_run(programs, "bench", "throughput", **settings)
    assert done.returncode == 2
    assert reached(done) == ["bench", "throughput"]
    assert "FAILED in step bench (exit code 2)" in done.stdout
    assert (state / "cloud" / "throughput" / "sweep.json").exists()


@pytest.mark.parametrize(
    ("wrong", "kept", "code"),
    [
        ({"ZCB_STREAM_READERS": "no-such-reader"}, ["sweep.json", "sweep.svg"], 2),
        ({"ZCB_SWEEP_VALUES": "none"}, ["read.json"], 2),
        ({"ZCB_STREAM_GIB": "none"}, [], 2),
    ],
)
def test_what_fails_of_throughput_costs_nothing_else(programs, state, settings, written, tmp_path, wrong, kept, code):
    home = tmp_path / "home"
    done = cloud_run(programs, "throughput", "home", **settings | wrong, ZCB_HOME=str(home))
    assert done.returncode == code
    assert reached(done) == ["throughput", "home"]
    assert f"FAILED in step throughput (exit code {code})" in done.stdout
    brought = (path for path in home.rglob("throughput/*") if path.stat().st_size)
    assert sorted(path.name for path in brought) == kept


def test_a_price_that_cannot_be_told(programs, state, settings):
    (state / "cloud").mkdir(exist_ok=True)
    asked = settings | {"ZCB_VM": "", "AWS_EC2_METADATA_DISABLED": "true"}
    stays = cloud_run(programs, "cost", "bench", **asked | {"ZCB_SHUTDOWN": "no"})
    assert stays.returncode == 0, stays.stdout
    assert "WARNING: what this may cost cannot be told; ZCB_VM names the type" in stays.stdout
    assert "WARNING: what reading a TiB cost cannot be told" in stays.stdout
    goes_down = cloud_run(programs, "cost", **asked)
    assert goes_down.returncode == 2
    assert "FAILED in step cost (exit code 2)" in goes_down.stdout
    misspelt = cloud_run(programs, "cost", **settings | {"ZCB_VM": "c6in.33xlarge", "ZCB_SHUTDOWN": "no"})
    assert misspelt.returncode == 2


def test_a_run_that_takes_longer_than_its_hours_does_not_begin(programs, state, settings):
    asked = settings | {"ZCB_CONFIG": "asv.releases.conf.json", "ZCB_VM": "c6in.32xlarge", "ZCB_HOURS": "1"}
    too_long = cloud_run(programs, "cost", **asked)
    assert too_long.returncode == 1
    assert re.search(r"asv: about [1-9]\.\d hours for 1 x 22 cases, more than the 1 ", too_long.stdout)
    assert cloud_run(programs, "cost", **asked | {"ZCB_GRID": "quick"}).returncode == 0
    assert cloud_run(programs, "cost", **asked | {"ZCB_SHUTDOWN": "no"}).returncode == 0  # nothing ends it


def test_a_dry_run_prints_steps_and_settings_and_does_nothing(programs, own_state, settings):
    done = cloud_run(programs, "--dry-run", **settings | {"ZCB_HOURS": "0.5"})
    assert done.returncode == 0, done.stderr
    steps, _, values = done.stdout.removeprefix("Steps:\n").partition("Settings:\n")
    assert re.findall(r"^  (\w+): \S", steps, re.MULTILINE) == [*STEPS, "home"]
    told = dict(line.strip().split("=", 1) for line in values.splitlines())
    assert set(told) == settings_of_run()
    assert (told["ZCB_HOURS"], told["ZCB_PRESET"], told["ZCB_TARGET"]) == ("0.5", "tiny", "embedded:loopback")
    assert programs.calls == []
    assert not (own_state / "cloud").exists()
    assert "step check" not in cloud_run(programs, "--dry-run", "check", **settings).stdout
    assert "no step is called arms" in cloud_run(programs, "--dry-run", "arms", **settings).stderr


def test_a_run_that_may_cost_too_much_goes_home_and_down(programs, state, settings, tmp_path):
    home = tmp_path / "home"
    done = cloud_run(programs, **settings, ZCB_HOME=str(home), ZCB_DOLLARS="0.01")
    assert done.returncode == 1
    assert reached(done) == ["arm", "install", "check", "cost"]
    assert "FAILED in step cost (exit code 1)" in done.stdout
    assert programs.calls == ["shutdown -P +180", "make .venv/.ready rust", "shutdown -P now"]
    (brought,) = home.iterdir()
    assert [path.name for path in brought.iterdir()] == ["log.txt"]
    assert "more than the $0.01" in (brought / "log.txt").read_text()


def test_a_run_that_fails_and_cannot_go_home_goes_down_all_the_same(programs, own_state, settings, tmp_path):
    programs.add("make", "exit 7")
    (tmp_path / "file").touch()
    done = cloud_run(programs, **settings, ZCB_HOME=str(tmp_path / "file" / "below"))
    assert done.returncode == 7
    assert reached(done) == ["arm", "install"]
    assert "could not be brought home" in done.stdout
    assert programs.calls[-1] == "shutdown -P now"


@pytest.mark.parametrize(("sent", "ends_with"), [(signal.SIGTERM, "shutdown -P now"), (signal.SIGKILL, "make")])
def test_a_run_that_is_killed(programs, own_state, settings, sent, ends_with):
    programs.add("make", f"exec {sys.executable} -c 'import time; time.sleep(60)'")
    process = subprocess.Popen(
        [str(RUN), "arm", "install"],
        env=programs.environment(**settings, ZCB_HOURS="0.5"),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: len(programs.calls) == 2)
    os.killpg(process.pid, sent)
    process.wait(timeout=60)
    assert process.returncode != 0
    wait_for(lambda: programs.calls[-1].startswith(ends_with))
    assert programs.calls[0] == "shutdown -P +30"  # and so a kill that nothing can catch ends the machine too


@pytest.mark.parametrize(("shutdown", "calls"), [("no", []), ("late", ["shutdown -P +180"])])
def test_only_a_disposable_machine_goes_down(programs, own_state, settings, shutdown, calls):
    settings["ZCB_SHUTDOWN"] = shutdown
    done = cloud_run(programs, "arm", **settings)
    assert done.returncode == 0, done.stdout
    assert programs.calls == calls


def test_nothing_goes_down_unless_asked(programs, own_state, settings):
    del settings["ZCB_SHUTDOWN"]
    assert cloud_run(programs, "arm", **settings).returncode == 0
    assert programs.calls == []


@pytest.mark.parametrize(
    ("steps", "wrong", "says"),
    [
        (["arms"], {}, "no step is called arms"),
        (["arm"], {"ZCB_SHUTDOWN": "maybe"}, "ZCB_SHUTDOWN is no, late or yes, not maybe"),
        (["arm"], {"ZCB_HOURS": "soon"}, "ZCB_HOURS is a number of hours, not soon"),
        (["arm"], {"ZCB_TARGET": ""}, "where are the data sets"),
    ],
)
def test_settings_that_make_no_sense(programs, own_state, settings, steps, wrong, says):
    done = cloud_run(programs, *steps, **settings | wrong)
    assert done.returncode != 0
    assert says in done.stdout + done.stderr
    assert "shutdown -P +" not in "".join(programs.calls)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_for_another_target(tmp_path, monkeypatch, name):
    monkeypatch.setenv("ZCB_TARGET", "s3://bucket/prefix")
    monkeypatch.setenv("ZCB_PRESET", "cloud")
    output = tmp_path / "new" / "asv.conf.json"
    output.parent.mkdir()
    done = CliRunner().invoke(zcb, ["cloud", "config", str(ROOT / name), "-o", str(output)])
    assert done.exit_code == 0, done.exception
    old, new = json.loads((ROOT / name).read_text()), json.loads(output.read_text())
    assert new["matrix"].pop("env_nobuild") == {"ZCB_TARGET": ["s3://bucket/prefix"], "ZCB_PRESET": ["cloud"]}
    del old["matrix"]["env_nobuild"]
    assert new["matrix"] == old["matrix"]
    assert (new["results_dir"], new["html_dir"]) == (str(tmp_path / "new" / "results"), str(tmp_path / "new" / "html"))
    assert new["benchmark_dir"] == str(ROOT / "benchmarks")
    assert new["repo"] == (old["repo"] if "://" in old["repo"] else str(ROOT / old["repo"]))


def test_a_configuration_that_is_none(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("{}")
    arguments = ["cloud", "config", str(tmp_path / "a.json"), "-o", str(tmp_path / "b.json")]
    monkeypatch.delenv("ZCB_TARGET", raising=False)
    assert "set ZCB_TARGET" in str(CliRunner().invoke(zcb, arguments).exception)
    monkeypatch.setenv("ZCB_TARGET", "s3://bucket")
    monkeypatch.setenv("ZCB_PRESET", "tiny")
    assert "no asv configuration" in str(CliRunner().invoke(zcb, arguments).exception)
    assert not (tmp_path / "b.json").exists()


@pytest.fixture
def made(tmp_path):
    (tmp_path / "results" / "box").mkdir(parents=True)
    (tmp_path / "results" / "box" / "a.json").write_text("a")
    (tmp_path / "log.txt").write_text("b")
    return [tmp_path / "results", tmp_path / "log.txt", tmp_path / "nothing"]


def test_home_is_a_folder(made, tmp_path):
    home = tmp_path / "home" / "today"
    assert bring_home(str(home), made) == ["results/box/a.json", "log.txt"]
    assert (home / "results" / "box" / "a.json").read_text() == "a"
    assert [path.name for path in home.parent.iterdir()] == ["today"]


def test_home_is_a_bucket(made, embedded_store, bucket, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": embedded_store.endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bring_home(f"s3://{bucket}/home/today", made)
    store = S3Store(bucket, prefix="home/today")
    assert bytes(obstore.get(store, "results/box/a.json").bytes()) == b"a"
    assert bytes(obstore.get(store, "log.txt").bytes()) == b"b"


def test_nothing_to_bring_home(tmp_path):
    with pytest.raises(BadUseError, match="nothing to bring home"):
        bring_home(str(tmp_path / "home"), [tmp_path / "a"])


def test_arrays_that_do_not_fit_are_not_applicable(embedded_store, monkeypatch):
    assert CliRunner().invoke(data, ["create", "--target", "embedded", "--preset", "tiny"]).exit_code == 0
    monkeypatch.setattr("harness.machine.lifeline.die_with_parent", lambda: None)
    monkeypatch.setattr(
        "harness.workload.model.os.sysconf",
        {"SC_PAGE_SIZE": 2**12, "SC_PHYS_PAGES": 2**8, "SC_CLK_TCK": 100}.__getitem__,
    )
    monkeypatch.setenv("ZCB_PRESET", "tiny")
    case = Case(pattern="whole_array", dataset="small", timeline=Recording(name="whole", pairs=0))
    cells = tracked.run_pass("whole_array", ["zarrs"], {("small",): case})
    cells |= timeline_pass.run_pass(["zarrs"], {"whole": case})
    assert {key: list(cell) for key, cell in cells.items()} == {
        ("zarrs", "small"): ["na"],
        (NETWORK_LIMIT, "small"): ["na"],
        ("zarrs", "whole"): ["na"],
    }
    assert all("a quarter of this machine" in cell["na"] for cell in cells.values())
    with pytest.raises(NotImplementedError, match="a quarter of this machine"):
        plain.Plain().prepare("zarr-python+obstore", case)
