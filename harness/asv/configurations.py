"""An asv configuration for another target: figures of two targets never share results."""

import json
import re
from pathlib import Path
from typing import Any

from harness.errors import BadUseError
from harness.paths import write_atomically

_SHARED = ("benchmark_dir", "env_dir")
_OWN = {"results_dir": "results", "html_dir": "html"}
_ELSEWHERE = re.compile(r"^[a-z+]+://|^[\w.]+@|^/")


def for_target(source: Path, output: Path, *, target: str, preset: str) -> None:
    """Write `source` once more for `target` and `preset`, to anywhere.

    Environments stay those of `source`, since neither changes what is built. Results and pages get folders of their
    own, beside `output`.

    Raises
    ------
    BadUseError
        `source` cannot be read or is no asv configuration.
    """
    try:
        conf: dict[str, Any] = json.loads(source.read_text())
        settings = conf["matrix"]["env_nobuild"]
        shared = {name: conf[name] for name in _SHARED}
    except OSError as error:
        raise BadUseError(f"cannot read {source}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadUseError(f"{source} is no asv configuration of this repository: {error}") from error
    settings |= {"ZCB_TARGET": [target], "ZCB_PRESET": [preset]}
    conf |= {name: str(source.parent.resolve() / folder) for name, folder in shared.items()}
    conf |= {name: str(output.parent.resolve() / folder) for name, folder in _OWN.items()}
    if not _ELSEWHERE.match(conf["repo"]):
        conf["repo"] = str(source.parent.resolve() / conf["repo"])
    write_atomically(output, json.dumps(conf, indent=2).encode() + b"\n")
