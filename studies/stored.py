"""Arrays written as their metadata say, by a library of one's choice: what the grid and the look-alikes read."""

import asyncio
import itertools
import json
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy.typing as npt
import obstore
from obstore.store import MemoryStore

Array = npt.NDArray[Any]
Document = dict[str, Any]
WRITERS = ("zarr-python", "tensorstore")


def name_of(document: Document) -> str:
    """Return the key of an array's metadata below the array's own."""
    return "zarr.json" if document["zarr_format"] == 3 else ".zarray"


def object_shape(document: Document) -> tuple[int, ...]:
    """Return the elements per axis of a stored object."""
    if document["zarr_format"] == 2:
        return tuple(document["chunks"])
    return tuple(document["chunk_grid"]["configuration"]["chunk_shape"])


def objects_of(document: Document) -> Iterator[tuple[slice, ...]]:
    """Yield what each object holds of the array, in C order of the grid; the last ones end with the array."""
    axes = [
        [slice(begin, min(begin + size, length)) for begin in range(0, length, size)]
        for length, size in zip(document["shape"], object_shape(document), strict=True)
    ]
    return itertools.product(*axes)


def write(document: Document, values: Array, objects: Sequence[int], *, writer: str) -> dict[str, bytes]:
    """Return an array's objects by their keys, its metadata among them as they are in `document`.

    Parameters
    ----------
    document
        Its ``zarr.json`` or ``.zarray``.
    values
        Of the whole array; what is in none of the `objects` is not written.
    objects
        Numbers of those that are written, in C order of their grid. A library stores none that holds the fill value
        alone.
    writer
        One of `WRITERS`; whatever it raises says that it cannot.
    """
    boxes = list(objects_of(document))
    wanted = [boxes[number] for number in objects]
    write_with = {"zarr-python": _by_zarr_python, "tensorstore": _by_tensorstore}[writer]
    return write_with(document, values, wanted) | {name_of(document): encoded(document)}


def encoded(document: Document) -> bytes:
    """Return metadata as they are stored; NaN in attributes stands bare, as Python writes it."""
    return json.dumps(document).encode()


def _by_zarr_python(document: Document, values: Array, boxes: Sequence[tuple[slice, ...]]) -> dict[str, bytes]:
    import zarr
    from zarr.storage import ObjectStore

    store = MemoryStore()
    obstore.put(store, name_of(document), encoded(document))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of types and codecs without a specification
        array = zarr.open_array(ObjectStore(store), mode="r+", zarr_format=document["zarr_format"])
        for box in boxes:
            array[box] = values[box]
    return {meta["path"]: bytes(obstore.get(store, meta["path"]).bytes()) for meta in obstore.list(store).collect()}


def _by_tensorstore(document: Document, values: Array, boxes: Sequence[tuple[slice, ...]]) -> dict[str, bytes]:
    import tensorstore

    async def written() -> dict[str, bytes]:
        context = tensorstore.Context()
        store = await tensorstore.KvStore.open({"driver": "memory"}, context=context)
        await store.write(name_of(document), encoded(document))
        spec = {"driver": "zarr3" if document["zarr_format"] == 3 else "zarr", "kvstore": {"driver": "memory"}}
        array = await tensorstore.open(spec, context=context, open=True)
        for box in boxes:
            await array[box].write(values[box])
        keys = await store.list()
        return {key.decode(): bytes((await store.read(key)).value) for key in keys}

    return asyncio.run(written())
