"""How a process that used obstore ends: at once, without taking Python down first.

Until Python 3.14, a thread that asks for Python's lock while the interpreter shuts down is torn out of whatever it
does, and obstore's runtime has such threads: on a loaded machine one process in some hundred that ended right after a
request ended by SIGABRT, its work done. Nothing of ours needs the interpreter's shutdown.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


def run_then_exit(main: Callable[[], None]) -> NoReturn:
    """Run `main` and end the process with its exit code, or with 1 and a traceback where it raises."""
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # as the interpreter does
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # who read it is gone, or `main` has told what is wrong with it
            stream.flush()
    os._exit(code)
