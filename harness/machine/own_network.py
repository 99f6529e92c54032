"""Run a command in a user and network namespace of its own: ``python -m harness.machine.own_network COMMAND ...``.

It is a program, since only a process of one thread may make a user namespace, and numpy has started threads in ``zcb``.
"""

import os
import sys
from pathlib import Path

from harness.errors import BadUseError


def run(command: list[str]) -> None:
    """Become `command`, as root of a new user namespace, in a new network namespace whose loopback interface is up.

    Raises
    ------
    BadUseError
        The kernel does not allow it.
    """
    try:
        _enter()
    except OSError as error:
        raise BadUseError(
            f"zcb netns may not make a user and network namespace here ({error.strerror}): let root allow user "
            "namespaces (`sysctl user.max_user_namespaces`, `sysctl kernel.apparmor_restrict_unprivileged_userns`), "
            "or take --link lo"
        ) from error
    os.execvp(command[0], command)  # noqa: S606 - an argument list, no shell


def _enter() -> None:
    user, group = os.getuid(), os.getgid()
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)
    own = Path("/proc/self")
    (own / "uid_map").write_text(f"0 {user} 1")
    (own / "setgroups").write_text("deny")  # the kernel's condition for the next
    (own / "gid_map").write_text(f"0 {group} 1")

    from harness.machine import netlink  # slow to import: not where it is of no use

    netlink.bring_up("lo")


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except BadUseError as error:
        sys.stderr.write(f"zcb: {error}\n")
        sys.exit(error.exit_code)
