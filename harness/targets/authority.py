"""Trust in a target's certificate authority for libraries that have no option of their own for it."""

import os

import msgspec

from harness.targets.target import Target

_VARIABLE = "SSL_CERT_FILE"
"""Whom TLS in Rust and in OpenSSL trusts in place of the system's authorities."""


def trusted_by_environment(target: Target) -> Target:
    """Let this process trust the authority of `target`, and return the target as one that needs no option for it.

    For libraries that know no such option (Icechunk), or that take obstore's settings over and know fewer of them than
    it has (zarrs-python, zarrista). They look when they make their first client, so this comes before.
    """
    if target.ca:
        os.environ[_VARIABLE] = target.ca
    return msgspec.structs.replace(target, ca=None)
