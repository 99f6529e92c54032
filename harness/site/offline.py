"""asv's own page without a network: what it loads from public hosts is put beside it.

The libraries come from Python packages (requirements.lock pins them); three small plugins are our own, in assets/.
asv's page asks for its data by requests, so it works over http, from any host and without a network, not under file://.
"""

import re
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
VENDOR = "vendor"
"""Folder of the site that holds what the page loads."""

_FLOT = ("js.jquery_flot", "js/jquery_flot/resources/{}")
_BOOTSTRAP = ("sphinx_bootstrap_theme", "sphinx_bootstrap_theme/bootstrap/static/bootstrap-3.4.1/{}")

LOADED: dict[str, tuple[str, str] | None] = {
    "jquery-3.3.1.min.js": ("js.jquery", "js/jquery/resources/jquery-3.6.1.min.js"),
    "jquery.flot.min.js": _FLOT,
    "jquery.flot.time.min.js": _FLOT,
    "jquery.flot.selection.min.js": _FLOT,
    "jquery.flot.categories.min.js": _FLOT,
    "jquery.flot.orderBars.js": None,
    "stupidtable.min.js": None,
    "md5.min.js": None,
    "bootstrap.min.js": (_BOOTSTRAP[0], _BOOTSTRAP[1].format("js/{}")),
    "bootstrap.min.css": (_BOOTSTRAP[0], _BOOTSTRAP[1].format("css/{}")),
}
"""Each file that asv 0.6.6 loads from a public host -> the package and the file in it that stands in; None is ours."""

_OURS = {
    "jquery.flot.orderBars.js": "orderbars.js",
    "stupidtable.min.js": "stupidtable.js",
    "md5.min.js": "md5.js",
}
_TAG = re.compile(r"<(?:script|link)\b[^>]*?\b(?:src|href)=\"(https?:[^\"]+)\"[^>]*>")
_CHECKS = re.compile(r"\s+(?:integrity|crossorigin|referrerpolicy)=\"[^\"]*\"")
"""Attributes that belong to the public host's file."""
_FONTS = re.compile(rb"@font-face\s*\{[^}]*\}")


class MissingError(Exception):
    """A package that holds a library of the page is not installed; the message names it."""


class ChangedError(Exception):
    """asv's page is not the page this module knows; the message says what is new or gone."""


def rewrite(page: str) -> str:
    """Return asv's page with every file from a public host replaced by the one in `VENDOR`.

    Raises
    ------
    ChangedError
        The page loads other files than those in `LOADED`.
    """
    found = [url.rpartition("/")[2] for url in _TAG.findall(page)]
    if sorted(found) != sorted(LOADED):
        odd = sorted(set(found) ^ set(LOADED)) or sorted(name for name in found if found.count(name) > 1)
        raise ChangedError(f"it loads other files than those known: {', '.join(odd)}")
    return _TAG.sub(lambda tag: _local(tag[0], tag[1]), page)


def _local(tag: str, url: str) -> str:
    return _CHECKS.sub("", tag.replace(url, f"{VENDOR}/{url.rpartition('/')[2]}"))


def libraries() -> dict[str, bytes]:
    """Return what the page loads: name -> content.

    Raises
    ------
    MissingError
        A package is not installed, or does not hold the file.
    """
    return {name: _content(name, source) for name, source in LOADED.items()}


def _content(name: str, source: tuple[str, str] | None) -> bytes:
    if source is None:
        return (ASSETS / _OURS[name]).read_bytes()
    package, inside = source[0], source[1].format(name)
    try:
        held = next((file for file in files(package) or () if str(file) == inside), None)
    except PackageNotFoundError:
        held = None
    if held is None or not (path := Path(str(held.locate()))).is_file():
        raise MissingError(f"{inside} of the Python package {package} is not installed")
    # Bootstrap's icon font is used by nothing on asv's page, and is not copied.
    return _FONTS.sub(b"", path.read_bytes()) if name.endswith(".css") else path.read_bytes()
