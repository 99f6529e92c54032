"""xarray over zarr-python's ObjectStore: `xarray.open_zarr`, a lazy selection, `load`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, override

from harness.errors import UnsupportedError
from harness.readers.zarr_python import ZarrPythonObstore

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.timeline.model import Timeline
    from harness.workload.model import Workload

_GROUP = "zarr.json"


class XarrayReader(ZarrPythonObstore):
    """The array as the only variable of a group, without dask.

    xarray opens groups of arrays whose metadata name their dimensions, and a bare array is neither. So the store
    answers one key by itself, the group's metadata, in the form that xarray writes (consolidated); all other keys reach
    the cloud as they are. Metadata are asked for when the array is opened, outside the timed part.
    """

    name = "xarray"
    packages: ClassVar[tuple[str, ...]] = ("xarray", "zarr", "obstore", "numcodecs", "numpy")
    rank = 32
    represents = None
    layer_over = "zarr-python+obstore"
    path = "array"

    @override
    def _store_class(self, workload: Workload) -> Any:
        group, above = self._group(workload), f"{self.path}/"

        class GroupStore(super()._store_class(workload)):  # type: ignore[misc] # a class that zarr may lack
            """Has the array in a group that is stored nowhere."""

            async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
                if key == _GROUP:
                    return prototype.buffer.from_bytes(group)
                return await super().get(key.removeprefix(above), prototype, byte_range)

        return GroupStore

    def _group(self, workload: Workload) -> bytes:
        """Return the metadata of a group around the array, with a name for each of its dimensions."""
        import obstore

        if workload.array.zarr_format != 3:
            raise UnsupportedError("the group that xarray is given is of Zarr's format 3, the array of format 2")
        document = json.loads(bytes(obstore.get(self._opened(workload), "zarr.json").bytes()))
        document["dimension_names"] = [f"axis_{number}" for number in range(len(workload.array.shape))]
        group = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {},
            "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": {self.path: document}},
        }
        return json.dumps(group).encode()

    @override
    def _opened_array(self, store: Any, pipeline: str | None) -> Any:
        try:
            import xarray
        except ImportError as error:
            raise UnsupportedError(f"xarray cannot be imported: {error}") from error

        super()._opened_array(store, pipeline)
        # What is compared with the truth are the stored values, not what attributes say to make of them.
        dataset = xarray.open_zarr(store, zarr_format=3, consolidated=True, decode_cf=False, chunks=self._blocks())
        return dataset[self.path]

    def _blocks(self) -> Any:
        """Return `chunks` of `xarray.open_zarr`: None keeps dask out."""
        return None

    @override
    def _selected(self, selection: tuple[slice, ...]) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = self._array[selection].load().values
        return array

    @override
    def timeline(self) -> tuple[Timeline, Any]:
        timeline, arrays = super().timeline()
        above = f"{self.path}/"
        for request in timeline.requests:
            request.key = request.key.removeprefix(above)
        for chunk in timeline.chunks:
            chunk.key = chunk.key.removeprefix(above)
        return timeline, arrays
