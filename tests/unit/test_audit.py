"""The audit from a folder: what is vulnerable is found by its version, and silence is no answer."""

import json

import pytest

from harness.errors import BadUseError
from studies import audit

LOCKS = {"PyPI": {"some-package": {"1.5"}}, "crates.io": {"some_crate": {"0.3.4", "1.0.0-rc.1"}}}


def record(ecosystem, name, *events, versions=(), informational=None, **more):
    kind = "SEMVER" if ecosystem == "crates.io" else "ECOSYSTEM"
    affected = {
        "package": {"ecosystem": ecosystem, "name": name},
        "ranges": [{"type": kind, "events": [dict([event]) for event in events]}],
        "versions": list(versions),
        "database_specific": {"informational": informational},
    }
    return {"id": "X-1", "summary": "bad", "published": "2026-01-02T03:04:05Z", "affected": [affected], **more}


@pytest.fixture
def found(tmp_path):
    def run(*records):
        others = [record("PyPI", "other", ("introduced", "0")), record("crates.io", "other", ("introduced", "0"))]
        for number, one in enumerate([*records, *others]):
            (tmp_path / f"{number}.json").write_text(json.dumps(one))
        return [(one.package, one.version) for one in audit.audit(tmp_path, LOCKS)[0]]

    return run


@pytest.mark.parametrize(
    ("events", "affected"),
    [
        ([("introduced", "0")], True),
        ([("introduced", "0"), ("fixed", "1.6")], True),
        ([("introduced", "0"), ("fixed", "1.5")], False),
        ([("introduced", "0"), ("last_affected", "1.5")], True),
        ([("introduced", "0"), ("last_affected", "1.4")], False),
        ([("introduced", "1.10")], False),
        ([("introduced", "0"), ("fixed", "1.0"), ("introduced", "1.4"), ("fixed", "1.10")], True),
        ([("fixed", "1.10"), ("introduced", "1.4")], True),
    ],
)
def test_a_package_of_python_is_found_by_its_version(found, events, affected):
    assert found(record("PyPI", "Some_Package", *events)) == ([("some-package", "1.5")] if affected else [])


@pytest.mark.parametrize(
    ("events", "affected"),
    [
        ([("introduced", "0.0.0-0"), ("fixed", "0.3.5")], ["0.3.4"]),
        ([("introduced", "0.0.0-0"), ("fixed", "0.3.4")], []),
        ([("introduced", "0.3.10"), ("fixed", "1.0.0")], ["1.0.0-rc.1"]),
        ([("introduced", "1.0.0-rc.2")], []),
    ],
)
def test_a_crate_is_found_by_its_version(found, events, affected):
    assert found(record("crates.io", "some_crate", *events)) == [("some_crate", version) for version in affected]


def test_versions_are_named_too_and_what_was_withdrawn_is_left_out(found):
    assert found(record("PyPI", "some-package", versions=["1.5"])) == [("some-package", "1.5")]
    assert found(record("PyPI", "some-package", versions=["1.5"], withdrawn="2026-01-01")) == []


def test_a_notice_is_no_vulnerability(tmp_path):
    for number, one in enumerate(
        [
            record("crates.io", "some_crate", ("introduced", "0"), informational="unmaintained"),
            record("PyPI", "some-package", ("introduced", "0")),
        ]
    ):
        (tmp_path / f"{number}.json").write_text(json.dumps(one))
    findings, known = audit.audit(tmp_path, LOCKS)
    assert [str(one).partition(":")[0] for one in findings] == ["VULNERABLE", "notice", "notice"]
    assert known["PyPI"] == (1, "2026-01-02")


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_what_is_no_database_is_refused(tmp_path, text):
    with pytest.raises(BadUseError, match=r"holds no advisories for PyPI and crates\.io"):
        audit.audit(tmp_path, LOCKS)
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadUseError, match=r"x\.json cannot be read"):
        audit.audit(tmp_path, LOCKS)


def test_the_locks_name_what_runs():
    locks = audit.pinned(audit.ROOT)
    assert locks["PyPI"]["zarr"]
    assert locks["crates.io"]["zarrs"]
    assert "zarrs-reader" not in locks["crates.io"]
