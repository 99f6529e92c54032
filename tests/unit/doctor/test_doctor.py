"""``zcb doctor`` says what is missing, for what, and ends accordingly."""

import json
import os
import shutil
import subprocess
import sys

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli.doctor import doctor as command
from harness.cloud import metadata
from harness.doctor import machine as doctor
from harness.doctor import target as target_checks
from harness.doctor.checks import Check, Row, Seen
from harness.doctor.target import TargetChecks
from harness.machine import network, rust
from harness.targets.target import Target
from tests.support import fake_cloud
from tests.support.fake_cloud import Cloud

SECRET = "a-secret-that-nobody-may-see"  # noqa: S105 - planted


def run(*arguments: str):
    return CliRunner().invoke(command, arguments)


def test_every_check_has_words():
    checks = doctor.examine()
    assert len({check.name for check in checks}) == len(checks) >= 14
    for check in checks:
        assert check.found, check.name
        assert check.needed_for, check.name
        assert (check.cure is None) == (check.verdict == "ok"), check


def test_json_and_exit_code():
    done = run("--json")
    report = json.loads(done.stdout)
    checks = msgspec.convert(report["checks"], list[Check])
    assert report["schema"] == 1
    assert report["can_bench"] == doctor.can_bench(checks) == (done.exit_code == 0)


@pytest.mark.parametrize("program", ["git", "make"])
def test_a_missing_program(monkeypatch, program):
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *a, **k: None if name == program else real(name, *a, **k))
    done = run()
    assert done.exit_code == 1
    assert f"install the system's package {program}" in " ".join(done.stdout.split())
    assert "cannot run" in done.stdout


def test_an_old_compiler(monkeypatch):
    monkeypatch.setattr(doctor, "_version_of", lambda _: (1, 60, 0))
    (rust,) = [check for check in doctor.examine() if check.name == "Rust"]
    assert (rust.verdict, rust.found) == ("missing", "rustc 1.60.0")


@pytest.mark.parametrize(
    ("manifest", "oldest"),
    [('[workspace.package]\nrust-version = "1.100"\n', (1, 100)), ("[workspace]\n", (0,)), (None, (0,))],
)
def test_the_compiler_asked_for_is_the_one_that_the_workspace_demands(monkeypatch, tmp_path, manifest, oldest):
    if manifest is not None:
        (tmp_path / "Cargo.toml").write_text(manifest)
    monkeypatch.setattr(rust, "WORKSPACE", tmp_path)
    assert doctor._oldest_rust() == oldest


def test_a_full_disk(monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    assert run().exit_code == 1


def test_a_busy_machine_is_a_warning_only(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    (load,) = [check for check in doctor.examine() if check.name == "other load"]
    assert load.verdict == "warn"


@pytest.mark.parametrize(
    ("count", "limit", "verdict", "found"),
    [(2, None, "ok", "2"), (2, 0.5, "warn", "2 cores, quota of 0.5"), (2, 4.0, "ok", "2"), (1, None, "warn", "1")],
)
def test_a_quota_stands_beside_the_cores(monkeypatch, count, limit, verdict, found):
    monkeypatch.setattr(doctor, "allowed_cores", lambda: count)
    monkeypatch.setattr(doctor, "quota", lambda: limit)
    (cores,) = [check for check in doctor.examine() if check.name == "cores"]
    assert (cores.verdict, cores.found) == (verdict, found)


def test_a_check_that_breaks_leaves_the_others(monkeypatch):
    def broken() -> tuple[float, float, float]:
        raise OSError("no such thing here")

    monkeypatch.setattr(os, "getloadavg", broken)
    checks = {check.name: check for check in doctor.examine()}
    assert checks["other load"].verdict == "warn"
    assert "no such thing here" in checks["other load"].found


def test_blanks_of_a_row_are_filled_by_what_was_seen():
    row = Row("x", "{much} of it", lambda: Seen(False, "none", words={"much": "1 GiB", "who": "{root}"}), "ask {who}")
    assert row.check() == Check(name="x", verdict="warn", found="none", needed_for="1 GiB of it", cure="ask {root}")


def test_the_command_fits_eighty_columns():
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.returncode in (0, 1)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_virtual_network_that_is_not_allowed_is_no_obstacle_to_measuring(monkeypatch):
    monkeypatch.setattr(doctor.veth, "obstacle", lambda: "it takes root or `zcb netns`")
    checks = doctor.examine()
    (network,) = [check for check in checks if check.name == "virtual network"]
    assert (network.verdict, network.found) == ("warn", "it takes root or `zcb netns`")
    assert network.cure is not None
    assert "docs/network.md" in network.cure
    assert doctor.can_bench(checks) == all(check.verdict != "missing" for check in checks)


def test_a_preset_that_does_not_fit(monkeypatch):
    small = doctor._Size(preset="x", array=2**20, objects=2**20)
    huge = doctor._Size(preset="y", array=2**50, objects=2**51)

    def looked_at_machine(name, size, target=None):
        (row,) = (row for row in doctor._table(lambda: size, target) if row.name == name)
        return row.check()

    assert looked_at_machine("memory", small).verdict == "ok"
    memory = looked_at_machine("memory", huge)
    assert memory.verdict == "warn"  # the other patterns can be measured
    assert memory.cure is not None
    assert "whole_array is n/a" in memory.cure
    assert looked_at_machine("disk", huge).verdict == "missing"
    assert looked_at_machine("disk", huge, "embedded:s3").verdict == "missing"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 0, 2**40))
    assert looked_at_machine("disk", huge, "s3://bucket/prefix").verdict == "ok"  # its objects are not kept here


def test_sizes_are_those_of_the_preset():
    assert doctor._Size.of("demo") == doctor._Size("demo", 2**28, 2**30)
    assert doctor._Size.of("cloud").array == 2**38


def test_an_unknown_preset():
    done = run("--preset", "nope")
    assert done.exit_code == 1  # click's runner; the command itself ends with 2
    assert "unknown preset 'nope'" in str(done.exception)


@pytest.mark.parametrize(("given", "verdict"), [(True, "warn"), (False, "ok")])
def test_pages_that_a_host_takes_back(monkeypatch, given, verdict):
    monkeypatch.setattr(doctor, "is_given_to_host", lambda: given)
    (pages,) = [check for check in doctor.examine() if check.name == "free pages"]
    assert pages.verdict == verdict
    assert (pages.cure is not None) == given


@pytest.mark.parametrize(("seconds", "verdict"), [(1.2e-6, "ok"), (1.2e-5, "warn")])
def test_contexts_that_a_host_makes_dear(monkeypatch, seconds, verdict):
    assert 0 < doctor._context_seconds() < 1
    monkeypatch.setattr(doctor, "_context_seconds", lambda: seconds)
    (contexts,) = [check for check in doctor.examine() if check.name == "zstd contexts"]
    assert (contexts.verdict, contexts.found) == (verdict, f"{seconds * 1e6:.1f} us each")


@pytest.mark.parametrize(
    ("governors", "verdict"), [([], "ok"), (["performance"] * 2, "ok"), (["performance", "powersave"], "warn")]
)
def test_the_governor(monkeypatch, tmp_path, governors, verdict):
    for number, governor in enumerate(governors):
        (tmp_path / f"cpu{number}" / "cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{number}" / "cpufreq" / "scaling_governor").write_text(f"{governor}\n")
    monkeypatch.setattr(doctor, "_CPUS", tmp_path)
    (governor,) = [check for check in doctor.examine() if check.name == "CPU governor"]
    assert governor.verdict == verdict


@pytest.fixture
def cloud(monkeypatch, tmp_path):
    """A fake cloud, and nothing of the real one that this machine might have."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "GCE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with fake_cloud.serving(Cloud()) as served:
        for name, value in fake_cloud.environment(served).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(metadata, "S3_ADDRESS", served.address)
        monkeypatch.setattr(network, "interfaces_to", lambda _: ("eth7",))
        monkeypatch.setattr(network, "receive_offloads", lambda _: ("rx-gro",))
        yield served


def looked_at(name):
    return {row.name: row.check() for row in TargetChecks(name).rows()}


BUCKET = "s3://a-bucket/prefix"


def test_a_vm_beside_its_bucket(cloud, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA-PLANTED")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    found = looked_at(BUCKET)
    assert {check.verdict for check in found.values()} == {"ok"}, found
    assert found["region"].found == "bucket in us-east-1, VM c6in.32xlarge in aws's us-east-1"
    assert found["credentials"].found == "there, from env"
    assert found["network interface"].found == "eth7: 200 Gbit/s, rx-gro"  # from the price table: no driver told
    assert "HEAD /a-bucket" in cloud.seen
    assert SECRET not in str(found)
    assert "AKIA-PLANTED" not in str(found)


def test_the_command_prints_no_secret(cloud):
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "AKIA-PLANTED",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SECRET,
    }
    at_the_fake = f"from harness.cloud import metadata; metadata.S3_ADDRESS = {cloud.address!r}"
    program = f"{at_the_fake}; from harness.cli import command; command()"
    command = [sys.executable, "-c", program, "doctor", "--target", BUCKET, "--preset", "tiny"]
    for form in ([], ["--json"]):
        done = subprocess.run([*command, *form], capture_output=True, text=True, check=False, env=environment)
        assert "c6in.32xlarge" in done.stdout, done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert "AKIA-PLANTED" not in done.stdout + done.stderr


def test_readers_that_are_told_another_region_than_the_buckets_are_named(cloud, monkeypatch):
    cloud.bucket_region = cloud.region = "eu-west-1"
    region = looked_at(BUCKET)["region"]
    assert (region.verdict, region.cure) == (
        "wrong",
        "readers are told us-east-1: export AWS_REGION=eu-west-1, or say `region` in targets.toml",
    )
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert looked_at(BUCKET)["region"].verdict == "ok"


def test_a_vm_in_another_region_must_not_measure(cloud):
    cloud.region = "eu-west-1"
    region = looked_at(BUCKET)["region"]
    assert region.verdict == "wrong"
    assert region.cure is not None
    assert "us-east-1" in region.cure
    assert not doctor.can_bench([region])


def test_a_vm_of_another_cloud_must_not_measure(cloud):
    cloud.kind, cloud.vm_type = "gcp", "c3d-highcpu-180"
    assert metadata.this_vm() == metadata.Vm(cloud="gcp", region="us-east-1", type="c3d-highcpu-180")
    assert looked_at(BUCKET)["region"].verdict == "wrong"


def test_a_machine_of_no_cloud_may(cloud):
    cloud.kind = "none"
    found = looked_at(BUCKET)
    assert metadata.this_vm() is None
    assert found["region"].verdict == "warn"
    assert "no cloud's VM" in found["region"].found
    assert "rate not told" in found["network interface"].found


def test_a_bucket_that_does_not_say_where_it_is(cloud):
    cloud.bucket_region = ""
    assert looked_at(BUCKET)["region"].verdict == "warn"


def test_metadata_that_is_switched_off_is_not_asked_for(cloud, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert metadata.this_vm() is None
    assert not [request for request in cloud.seen if request.startswith("PUT")]


@pytest.mark.parametrize(("ahead", "verdict"), [(0, "ok"), (200, "warn"), (-200, "warn"), (4000, "wrong")])
def test_the_clock_against_the_stores(cloud, ahead, verdict):
    cloud.clock = ahead
    clock = looked_at(BUCKET)["clock, against store"]
    assert clock.verdict == verdict
    if ahead:
        assert clock.found.endswith("behind" if ahead > 0 else "ahead")


def test_a_slow_vm(cloud):
    cloud.vm_type = "c6in.8xlarge"
    assert looked_at(BUCKET)["network interface"].verdict == "ok"  # 50 Gbit/s


def test_a_driver_that_tells_a_low_rate(cloud, monkeypatch):
    monkeypatch.setattr(network, "gbit_s", lambda _: 1.0)
    found = looked_at(BUCKET)["network interface"]
    assert (found.verdict, found.found) == ("warn", "eth7: 1 Gbit/s, rx-gro")


def test_merging_before_counting_is_named(cloud, monkeypatch):
    monkeypatch.setattr(network, "receive_offloads", lambda _: ("rx-gro", "rx-lro"))
    found = looked_at(BUCKET)["network interface"]
    assert found.verdict == "warn"
    assert found.cure is not None
    assert "ethtool -K eth7" in found.cure


def test_no_credentials(cloud):
    cloud.kind = "none"
    found = looked_at(BUCKET)["credentials"]
    assert (found.verdict, found.found) == ("missing", "none in AWS's chain")


def test_credentials_that_only_some_readers_find(cloud, tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id = AKIA-PLANTED\naws_secret_access_key = {SECRET}\n"
    )
    found = looked_at(BUCKET)["credentials"]
    assert (found.verdict, found.found) == ("warn", "there, from shared-credentials-file")
    assert SECRET not in str(found)


def test_a_profile_that_is_not_there(cloud, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nope")
    assert looked_at(BUCKET)["credentials"].verdict == "wrong"


def test_an_anonymous_target_needs_none(cloud, monkeypatch, tmp_path):
    path = tmp_path / "targets.toml"
    path.write_text(f'[public]\nurl = "{BUCKET}"\nregion = "us-east-1"\nanonymous = true\n')
    monkeypatch.setenv("ZCB_TARGETS", str(path))
    assert looked_at("public")["credentials"].found == "not needed: anonymous"


def test_credentials_of_other_clouds(cloud, monkeypatch, tmp_path):
    missing = target_checks._gcp_credentials()
    assert (missing.good, missing.verdict) == (False, "missing")
    cloud.kind = "gcp"
    assert target_checks._gcp_credentials().found == "there, from the VM's account"
    key = tmp_path / "key.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    wrong = target_checks._gcp_credentials()
    assert (wrong.good, wrong.verdict) == (False, "wrong")
    key.write_text(SECRET)
    assert target_checks._gcp_credentials().good
    unknown = target_checks._azure_credentials()
    assert (unknown.good, unknown.verdict) == (False, "warn")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", SECRET)
    assert target_checks._azure_credentials().found == "there, from AZURE_STORAGE_SAS_TOKEN"


def test_a_target_that_is_not_there():
    (found,) = [row.check() for row in TargetChecks("no-such-target").rows()]
    assert found.verdict == "missing"
    assert "no-such-target" in found.found


def test_the_embedded_target_asks_no_cloud(embedded_store, cloud):
    found = looked_at("embedded")
    assert list(found) == ["target", "credentials", "network interface"]
    assert {check.verdict for check in found.values()} == {"ok"}
    assert cloud.seen == []


def test_without_a_target_nothing_is_asked(cloud):
    assert list(looked_at(None)) == ["network interface"]
    assert cloud.seen == []


def test_a_store_that_does_not_answer(cloud, monkeypatch):
    monkeypatch.setattr(metadata, "S3_ADDRESS", "http://127.0.0.1:9")
    found = looked_at(BUCKET)
    assert found["region"].verdict == "warn"
    assert "cannot reach http://127.0.0.1:9" in found["region"].found


def test_a_service_of_ones_own_has_no_region(cloud):
    target = Target(name="minio", url="s3://b", endpoint=cloud.address)
    assert metadata.ask_bucket(target).status == 403
