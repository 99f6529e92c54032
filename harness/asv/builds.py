"""asv's environments and builds, made before they are measured: ``python -m harness.asv.builds CONFIG COMMIT ...``.

asv builds between one measurement and the next. Made ahead, builds wait in asv's cache: the package index is needed
only here, and compiling something else meanwhile disturbs nothing. It is a program, since what asv prints is a log.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asv import util
from asv.config import Config
from asv.console import log
from asv.environment import get_environments
from asv.plugin_manager import plugin_manager
from asv.plugins.virtualenv import Virtualenv
from asv.repo import get_repo

_UV = Path(sys.prefix) / "bin" / "uv"


def install_at_once() -> None:
    """Let uv install an environment's requirements in one call; asv calls pip once for each, which takes minutes.

    Where uv cannot, as without an index that it can reach, asv does what it always did.
    """
    one_by_one = Virtualenv._install_requirements

    def install(environment: Any) -> None:
        try:
            _install(environment)
        except (util.ProcessError, OSError) as error:
            log.info(f"uv did not install them ({error}): pip does")
            one_by_one(environment)

    Virtualenv._install_requirements = install


def _install(environment: Any) -> None:
    python = Path(environment._path) / "bin" / "python"
    needed = {**environment._requirements, **environment._base_requirements}
    named = [name.removeprefix("pip+") + (f"=={version}" if version else "") for name, version in needed.items()]
    util.check_call([str(_UV), "pip", "install", "--quiet", "--python", str(python), "wheel", *named])


def build(config: Path, commits: list[str]) -> None:
    """Make the environments of an asv configuration, and build each commit in them where that has not been done.

    Parameters
    ----------
    config
        asv's configuration file, in the working directory.
    commits
        What asv's repository knows: hashes, tags.

    Raises
    ------
    asv.util.ProcessError
        A build failed; what it printed went to stderr.
    """
    conf = Config.load(str(config))
    _load_plugins(conf)
    repo = get_repo(conf)
    repo.pull()
    for environment in get_environments(conf, None):
        environment.create()
        for commit in map(repo.get_hash_from_name, commits):
            if environment._cache.get_cache_dir(commit) is None:
                _build_only(environment, repo, commit)


def _build_only(environment: Any, repo: Any, commit: str) -> None:
    """Build a commit into asv's cache, as its own `install_project` does, without installing it."""
    environment.checkout_project(repo, commit)
    folder = environment._cache.create_cache_dir(commit)
    environment._set_build_dirs(environment._build_root, folder)
    environment._build_project(repo, commit, environment._build_root)
    environment._cache.finalize_cache_dir(commit)


def _load_plugins(conf: Any) -> None:
    for plugin in conf.plugins:
        plugin_manager.import_plugin(plugin)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (util.UserError, util.ProcessError) as error:
        sys.exit(f"zcb: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    log.enable(verbose=True)
    with _explained():
        build(Path(sys.argv[1]), sys.argv[2:])
