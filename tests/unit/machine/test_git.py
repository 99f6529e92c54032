"""git as a program: whose repository, whose configuration, and what it says when it refuses."""

import pytest

from harness.errors import BadUseError
from harness.machine import git

NOBODY = {f"GIT_{role}_{what}": "t@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture
def repository(tmp_path):
    path = tmp_path / "repository"
    git.run(None, "init", "--quiet", "--initial-branch=main", str(path), alone=True)
    (path / "file").write_text("one")
    git.run(path, "add", "-A")
    git.run(path, "commit", "--quiet", "-m", "one", alone=True, **NOBODY)
    return path


def test_the_repository_of_a_hook_is_not_taken_for_ours(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert git.run(repository, "ls-files") == "file"


def test_configuration_has_a_say_unless_git_is_alone(repository, tmp_path, monkeypatch):
    (tmp_path / "config").write_text("[user]\nname = somebody\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    assert git.run(repository, "config", "user.name") == "somebody"
    with pytest.raises(git.GitError):
        git.run(repository, "config", "user.name", alone=True)


def test_what_git_refuses_is_one_line(repository):
    with pytest.raises(git.GitError, match=r"^git rev-parse failed: .+$") as caught:
        git.run(repository, "rev-parse", "nonsense")
    assert "\n" not in str(caught.value)
    assert git.ask(repository, "rev-parse", "nonsense") is None
    assert git.ask(repository, "rev-parse", "--abbrev-ref", "HEAD") == "main"


def test_a_commit_under_no_branch_is_checked_out(repository, tmp_path):
    (repository / "file").write_text("two")
    git.run(repository, "commit", "--quiet", "-am", "two", alone=True, **NOBODY)
    commit = git.run(repository, "rev-parse", "HEAD")
    git.run(repository, "update-ref", "refs/pull/7/head", commit)
    git.run(repository, "reset", "--quiet", "--hard", "HEAD^")
    git.check_out(repository, commit, tmp_path / "made")
    assert (tmp_path / "made" / "file").read_text() == "two"
    with pytest.raises(git.GitError, match="holds no commit 0000"):
        git.check_out(repository, "0" * 40, tmp_path / "other")


def test_without_git_it_is_said(repository, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BadUseError, match="git is not installed"):
        git.ask(repository, "rev-parse", "HEAD")
