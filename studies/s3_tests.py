"""Ceph's s3-tests against the embedded store, which stays beside this repository (docs/store.md).

``git clone https://github.com/ceph/s3-tests``, an environment with its ``requirements.txt``, then
``python -m studies.s3_tests CHECKOUT --python ENVIRONMENT/bin/python``.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import click

from harness.store.lifecycle import StoreSettings, start, stop

NOT_CLAIMED = {
    "bounds and dates of presigned addresses, which s3s checks its own way": r"expire",
    "ACLs, owners, anonymous access": (
        r"acl|anon|access_bucket|_owne|fetchowner|public|object_raw|bucket_gone|return_data|nonowner|object_writer"
        r"|special_key_names|100_continue"
    ),
    "versions, deletion by size or date": r"version|_current_|delete_marker|if_match_(size|last)",
    "forms": r"post_object",
    "tags": r"tag",
    "encryption": r"_enc|encrypt|sse|kms",
    "CORS": r"cors",
    "lifecycle, policies, object lock, logs, websites, select, classes": (
        r"lifecycle|policy|object_lock|logging|website|s3select|cloud|torrent|storage_class|restore|notification"
    ),
    "GetObjectAttributes, checksums of whole multipart objects": r"attributes|multipart.*(checksum|cksum)",
    "Ceph's own extensions": r"usage|unordered|head_extended|append",
    "pages of buckets": r"list_buckets_paginated",
    "completing an upload twice": r"test_multipart_upload(_small)?$",
    "409 for one's own bucket, as S3 outside of us-east-1": r"bucket_create_exists$|recreate_not_overriding",
    "416 `InvalidPartNumber`, as S3 says, where Ceph says 400": r"get_part$",
    "text in RFC 2047's form, as S3 sends it": r"unicode_metadata",
    "a body needs its length, as in S3": r"chunked_transfer_encoding",
    "names with `.-` and `-.`": r"naming_dns_(dot_dash|dash_dot)",
    "what botocore does not decode, or reads more often than the test expects": (
        r"list_prefix_unreadable|object_read_unreadable|resend_first_finishes_last"
    ),
}
"""Why a test may fail, and the names of those that do: operations that the store does not have, and differences."""
NOT_RUN = NOT_CLAIMED["lifecycle, policies, object lock, logs, websites, select, classes"]
"""Tests that would only wait for what never comes."""
_KEYS = ("s3-tests", "s3-tests-secret")
_USERS = ("s3 main", "s3 alt", "s3 tenant", "iam", "iam root", "iam alt root")
_CLEAN = """
import s3tests.functional as suite

def remove_buckets(prefix, client=None):
    client = client or suite.get_client()
    for bucket in suite.get_buckets_list(client, prefix):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", []):
                client.delete_object(Bucket=bucket, Key=entry["Key"])
        client.delete_bucket(Bucket=bucket)

suite.nuke_prefixed_buckets = remove_buckets
"""
"""The suite cleans up by ListObjectVersions, which the store does not have."""


def settings(endpoint: str) -> str:
    """Return the suite's configuration file: one user under all its names."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    access, secret = _KEYS
    user = f"display_name = u\nuser_id = u\nemail = u@example.org\ntenant = t\naccess_key = {access}\n"
    user += f"secret_key = {secret}\n"
    sections = "".join(f"[{name}]\n{user}" for name in _USERS)
    general = f"[DEFAULT]\nhost = {host}\nport = {port}\nis_secure = no\n[fixtures]\nbucket prefix = t-{{random}}-\n"
    return general + sections


def run(checkout: Path, python: str, chosen: str, work: Path) -> Path:
    """Run the suite; return its report."""
    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = _KEYS
    os.environ["ZCB_STATE_DIR"] = str(work / "state")
    store = start(StoreSettings(profile="loopback", auth=True))
    try:
        (work / "s3.conf").write_text(settings(store.endpoint))
        (work / "remove_buckets.py").write_text(_CLEAN)
        report = work / "report.xml"
        names = f"not ({' or '.join(NOT_RUN.split('|'))})" + (f" and ({chosen})" if chosen else "")
        command = [
            python,
            "-m",
            "pytest",
            "-q",
            "--tb=no",
            "-p",
            "remove_buckets",
            "-p",
            "no:cacheprovider",
            "-k",
            names,
        ]
        command += [f"--junitxml={report}", "s3tests/functional/test_s3.py"]
        environment = {**os.environ, "S3TEST_CONF": str(work / "s3.conf"), "PYTHONPATH": str(work)}
        subprocess.run(command, cwd=checkout, env=environment, stdout=sys.stderr, check=False)
    finally:
        stop()
    return report


def reason(name: str) -> str | None:
    """Return why a test may fail; None where it must not."""
    return next((why for why, pattern in NOT_CLAIMED.items() if re.search(pattern, name)), None)


def table(report: Path) -> tuple[str, list[str]]:
    """Return the table in Markdown, and the names of the tests that fail and must not."""
    passed, excused, failed = 0, Counter[str](), []
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314
        name = case.get("name", "")
        outcomes = {part.tag for part in case}
        if "skipped" in outcomes:
            continue
        if not outcomes & {"failure", "error"}:
            passed += 1
        elif why := reason(name):
            excused[why] += 1
        else:
            failed.append(name)
    rows = [f"| pass | {passed} |", *(f"| not claimed: {why} | {count} |" for why, count in excused.most_common())]
    return "\n".join(["| s3-tests | tests |", "|---|---|", *rows, f"| fails | {len(failed)} |"]), failed


@click.command()
@click.argument("checkout", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--python", required=True, help="Interpreter with the suite's requirements.")
@click.option("--names", default="", help="Only these tests, as pytest's -k has them.")
def main(checkout: Path, python: str, names: str) -> None:
    """Print pass, not claimed and fails; exit code 1 if anything fails that is claimed."""
    with tempfile.TemporaryDirectory() as work:
        text, failed = table(run(checkout, python, names, Path(work)))
    print(text, *failed, sep="\n")  # noqa: T201
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
