"""Small git repositories, made commit by commit."""

import subprocess
from pathlib import Path


def git(repository: Path, *arguments: str) -> str:
    """Return what git prints, as somebody."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    command = ["git", "-C", str(repository), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def repository(path: Path) -> Path:
    """Return a new repository whose branch is ``main``."""
    path.mkdir(exist_ok=True)
    git(path, "init", "-q", "-b", "main")
    return path


def commit(repository: Path, subject: str, **files: str) -> str:
    """Write files, ``__`` in a name standing for a slash, commit them, and return the commit's full hash."""
    for name, text in files.items():
        path = repository / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", subject)
    return git(repository, "rev-parse", "HEAD")
