"""Bringing results home from a machine that will be gone: to a folder, or to an object store."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import obstore

from harness.errors import BadUseError
from harness.targets.client import open_store, reaching
from harness.targets.resolve import resolve


def bring_home(destination: str, paths: Sequence[Path]) -> list[str]:
    """Copy files and folders below `destination` and return the names of the files there; missing ones are left out.

    Parameters
    ----------
    destination
        A folder, or the URL of a place in an object store.
    paths
        Each keeps its last name: ``results/a.json`` of a folder ``results`` becomes ``results/a.json``.

    Raises
    ------
    BadUseError
        None of the paths is there, or the folder cannot be written.
    StoreError
        The object store cannot be reached or refuses.
    """
    files = dict(_files(paths))
    if not files:
        raise BadUseError(f"nothing to bring home: there is no {', '.join(map(str, paths))}")
    if "://" in destination:
        _upload(destination, files)
    else:
        _copy(Path(destination), files)
    return list(files)


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for path in paths:
        if path.is_dir():
            yield from (
                (str(file.relative_to(path.parent)), file) for file in sorted(path.rglob("*")) if file.is_file()
            )
        elif path.is_file():
            yield path.name, path


def _upload(destination: str, files: dict[str, Path]) -> None:
    target = resolve(destination)
    with reaching(target):
        store = open_store(target)
        for name, path in files.items():
            obstore.put(store, name, path)


def _copy(folder: Path, files: dict[str, Path]) -> None:
    """Copy into a folder that has its name when it is complete."""
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        for name, path in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, partial / name)
        partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise BadUseError(f"cannot bring results home to {folder}: {error.strerror}") from error
