"""Pages that hold all that they need: a template whose marks are replaced by style, script and data."""

from pathlib import Path


def fill(template: Path, parts: dict[str, str]) -> str:
    """Return the template with each mark, e.g. ``/*DATA*/``, replaced once; what is put in is not searched for marks.

    Data (the mark ``/*DATA*/``) may hold any text: "<", which would end its block, is written as an escape of JSON.
    """
    text, marks = template.read_text(), sorted(parts, key=template.read_text().index)
    pieces = []
    for mark in marks:
        before, _, text = text.partition(mark)
        content = parts[mark].replace("<", "\\u003c") if mark == "/*DATA*/" else parts[mark]
        pieces += [before, content]
    return "".join([*pieces, text])
