"""Write the tables of README.md and docs/ that come from lists: ``python -m studies.document``, or ``make docs``.

A table stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->``; a test holds that each is what is made here.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from harness.paths import ROOT
from harness.readers import all_readers
from harness.readers.settings import Setting
from harness.results.metrics import METRICS
from harness.results.sample import FLAGS

_BETTER = {"lower": "lower", "higher": "higher", "": "-"}


def _metrics() -> Iterator[str]:
    yield from _head("`--metric`", "shown as", "unit", "better", "asv's unit", "meaning")
    for metric in METRICS.values():
        tracked = metric.asv.unit if metric.asv else ""
        yield _row(f"`{metric.key}`", metric.title, metric.unit, _BETTER[metric.better], tracked, metric.meaning)


def _tracked() -> Iterator[str]:
    yield from _head("metric", "", "meaning")
    for metric in METRICS.values():
        if metric.asv is not None:
            yield _row(f"`{metric.key}`", metric.title, metric.meaning)


def _flags() -> Iterator[str]:
    yield from _head("flag", "in the terminal", "on the page", "meaning")
    for flag in FLAGS.values():
        yield _row(f"`{flag.key}`", flag.letter, flag.mark, flag.meaning)


def _settings() -> Iterator[str]:
    yield from _head("setting", "given to", "readers", "documentation's", "tried", "meaning")
    readers: dict[Setting, list[str]] = {}
    for name, reader in all_readers().items():
        for one in reader.settings:
            readers.setdefault(one, []).append(f"`{name}`")
    for one, names in readers.items():
        tried = ", ".join(f"`{value}`" for value in one.values)
        yield _row(f"`{one.name}`", one.of, ", ".join(names), one.default, tried, one.meaning)


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield "|" + "---|" * len(names)


def _row(*texts: str) -> str:
    return f"| {' | '.join(texts)} |".replace("|  |", "| |")


TABLES: dict[str, Callable[[], Iterable[str]]] = {
    "metrics": _metrics,
    "tracked metrics": _tracked,
    "flags": _flags,
    "settings": _settings,
}
"""What stands between which marks."""

FILES = (ROOT / "README.md", ROOT / "docs" / "metrics.md", ROOT / "docs" / "tuning.md")


def documented(text: str) -> str:
    """Return a document with its tables as the lists are now."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        if found:
            text = "\n".join([before + begin, *table(), end + rest.partition(end)[2]])
    return text


def main(files: Iterable[Path] = FILES) -> None:
    """Write the tables anew."""
    for path in files:
        path.write_text(documented(path.read_text()))


if __name__ == "__main__":
    main()
