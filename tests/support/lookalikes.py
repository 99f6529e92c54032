"""Small arrays that are stored like public ones: the same format, type, codecs, keys and order, with shorter axes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from studies.stored import Array, Document, objects_of, write

LZ4 = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}
CRC = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


@dataclass(frozen=True, kw_only=True)
class LookAlike:
    """A public array (docs/public.md), made small."""

    name: str
    """As in docs/public.md."""
    path: str
    """Of the array below its group."""
    document: Document

    def objects(self) -> tuple[dict[str, bytes], Array]:
        """Return what is stored below the array's key, and what it holds; the second of its objects is missing."""
        document = self.document
        dtype = np.dtype(document["dtype"] if document["zarr_format"] == 2 else document["data_type"])
        values = np.full(document["shape"], _fill(document, dtype), dtype)
        wave = np.add.outer(*(np.arange(size) for size in (values.shape[0], int(np.prod(values.shape[1:])))))
        whole = (wave * 7 % 251).reshape(values.shape).astype(dtype)
        boxes = list(objects_of(document))
        written = [number for number in range(len(boxes)) if number != 1]
        for number in written:
            values[boxes[number]] = whole[boxes[number]]
        return write(document, values, written, writer="zarr-python"), values


def _fill(document: Document, dtype: np.dtype[Any]) -> Any:
    fill = document["fill_value"]
    return np.nan if fill == "NaN" else dtype.type(fill or 0)


def _v2(shape: list[int], chunks: list[int], dtype: str, compressor: Any, *, fill: Any, **more: Any) -> Document:
    return {
        "zarr_format": 2,
        "shape": shape,
        "chunks": chunks,
        "dtype": dtype,
        "compressor": compressor,
        "filters": None,
        "order": "C",
        "fill_value": fill,
    } | more


def _v3(
    shape: list[int], shards: list[int], chunks: list[int], dtype: str, blosc: dict[str, Any], fill: Any
) -> Document:
    size = np.dtype(dtype).itemsize
    compressor = {"name": "blosc", "configuration": blosc | {"shuffle": "shuffle", "typesize": size, "blocksize": 0}}
    inner = {"chunk_shape": chunks, "codecs": [CRC[0], compressor], "index_codecs": CRC, "index_location": "end"}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shards}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": fill,
        "codecs": [{"name": "sharding_indexed", "configuration": inner}],
        "attributes": {},
    }


ZSTD3 = {"cname": "zstd", "clevel": 3}
ZSTD5 = {"cname": "zstd", "clevel": 5}
ZSTD6 = {"id": "zstd", "level": 6}

LOOKALIKES = (
    LookAlike(
        name="ERA5, surface",
        path="2m_temperature",
        document=_v2([3, 21, 40], [1, 21, 40], "<f4", LZ4, fill="NaN"),
    ),
    LookAlike(
        name="ERA5, levels",
        path="temperature",
        document=_v2([3, 37, 21, 40], [1, 37, 21, 40], "<f4", LZ4, fill="NaN"),
    ),
    LookAlike(
        name="GEFS, 35 days",
        path="temperature_2m",
        document=_v3([2, 3, 9, 22, 24], [1, 3, 12, 17, 16], [1, 3, 4, 17, 8], "float32", ZSTD3, "NaN"),
    ),
    LookAlike(
        name="GFS, forecast",
        path="temperature_2m",
        document=_v3([2, 7, 22, 30], [1, 10, 18, 18], [1, 5, 3, 3], "float32", ZSTD3, "NaN"),
    ),
    LookAlike(
        name="GFS, analysis",
        path="temperature_2m",
        document=_v3([40, 20, 30], [36, 18, 18], [12, 3, 3], "float32", ZSTD3, "NaN"),
    ),
    LookAlike(
        name="MUR, sea surface",
        path="analysed_sst",
        document=_v2([12, 20, 36], [5, 18, 36], "<i2", LZ4, fill=-32768),
    ),
    LookAlike(
        name="IDR 6001240, OME-Zarr 0.4",
        path="0",
        document=_v2([2, 3, 27, 27], [1, 1, 27, 27], "<u2", LZ4, fill=0, dimension_separator="/"),
    ),
    LookAlike(
        name="IDR 6001240, OME-Zarr 0.5",
        path="0",
        document=_v3([2, 12, 27, 27], [1, 10, 32, 32], [1, 1, 16, 16], "uint16", ZSTD5, 0),
    ),
    LookAlike(
        name="COS-7 cell, FIB-SEM",
        path="recon-1/em/fibsem-uint8/s0",
        document=_v2([20, 44, 60], [8, 16, 16], "|u1", ZSTD6, fill=0, dimension_separator="/"),
    ),
    LookAlike(
        name="1000 Genomes, phase 3",
        path="22/calldata/GT",
        document=_v2([130, 50, 2], [64, 16, 2], "|i1", LZ4, fill=-1),
    ),
)
