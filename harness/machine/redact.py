"""Addresses without their secrets, for whatever is shown, logged or kept."""

import re

_USER = re.compile(r"(?<=://)[^/?#\s'\"]*@")


def redacted(text: str) -> str:
    """Return `text` with the user and password of every address in it replaced by ``...``."""
    return _USER.sub("...@", text)
