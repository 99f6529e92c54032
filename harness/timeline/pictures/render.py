"""Pages that hold all that they need, from Jinja2 templates: texts are escaped, and data stand in one block of JSON."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

ASSETS = Path(__file__).parent / "assets"
"""What pages share: ``base.html``, which every page extends, and the viewer of timelines."""


def render(template: str, *folders: Path, data: Any, **fields: Any) -> str:
    """Return a page.

    Parameters
    ----------
    template
        File name of the template, which extends ``base.html``.
    folders
        Where the template and the files that it names by ``file(...)``, styles and scripts, are looked for, before
        `ASSETS`.
    data
        JSON values for the page's script. In the block of JSON "<" is written as an escape, so that no text ends it.
    fields
        What else the template shows.
    """
    loader = FileSystemLoader([*folders, ASSETS])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False,
        "separators": (",", ":"),
        "allow_nan": False,
    }
    environment.globals["file"] = lambda name: loader.get_source(environment, name)[0]
    return environment.get_template(template).render(data=data, **fields)
