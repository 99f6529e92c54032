"""git, as a program: run in a repository, its answer as text, its complaint as one line."""

import os
import subprocess
from pathlib import Path

from harness.errors import BadUseError
from harness.machine.log import last_line

_PLACES = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
}
"""Variables that git sets for its hooks: with them every command would work on the hook's repository."""

_NO_CONFIGURATION = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


class GitError(BadUseError):
    """git refused; the message is one line, with git's own last one in it."""


def run(repository: Path | None, *arguments: str, alone: bool = False, **variables: str) -> str:
    """Return what git prints, without white space around it.

    Parameters
    ----------
    repository
        Where to run; None is the working directory.
    arguments
        The command, such as ``"rev-parse", "HEAD"``.
    alone
        Whether the configuration of the user and the machine, and every variable of git's, have no say: they could
        sign, convert or hook.
    variables
        Environment variables for this command.

    Raises
    ------
    GitError
        git failed.
    BadUseError
        There is no git.
    """
    where = ["-C", str(repository)] if repository else []
    dropped = {name for name in os.environ if name in _PLACES or (alone and name.startswith("GIT_"))}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    try:
        done = subprocess.run(
            ["git", *where, *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # names of files are bytes
            check=False,
            env=kept | (_NO_CONFIGURATION if alone else {}) | variables,
        )
    except FileNotFoundError as error:
        raise BadUseError("git is not installed") from error
    if done.returncode:
        raise GitError(f"git {arguments[0]} failed: {last_line(done.stderr)}")
    return done.stdout.strip()


def ask(repository: Path, *arguments: str) -> str | None:
    """Return what git prints; None where it says no."""
    try:
        return run(repository, *arguments)
    except GitError:
        return None


def check_out(repository: Path, commit: str, folder: Path) -> None:
    """Put the files of a commit, named by its full hash, into a new folder that is a clone of `repository`.

    Raises
    ------
    GitError
        The repository does not hold the commit.
    """
    run(None, "clone", "--quiet", "--no-checkout", "--", str(repository), str(folder))
    try:
        # A pull request's commit is under no branch, so a clone does not bring it: fetch it by its id.
        run(folder, "fetch", "--quiet", "origin", commit)
        run(folder, "checkout", "--quiet", "--detach", commit)
    except GitError as error:
        raise GitError(f"{repository} holds no commit {commit}: {error}") from error
