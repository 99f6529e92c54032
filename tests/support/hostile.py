"""Variables and files that real machines have, and that would bend a figure if a library heeded them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FUSED = "zarr.core.codec_pipeline.FusedCodecPipeline"


@dataclass
class Elsewhere:
    """An address where nobody may look for data."""

    address: str
    connections: int = 0


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """Listen on loopback, count who connects, and answer nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = Elsewhere(f"http://127.0.0.1:{server.getsockname()[1]}")

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                found.connections += 1
                connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def variables(address: str, folder: Path) -> dict[str, str]:
    """Return hostile variables: settings of libraries, another address than the target's, debug modes.

    Parameters
    ----------
    address
        Where nobody may look for data.
    folder
        A folder with settings of every library, as `files` writes them.
    """
    zarr = {
        "ZARR_CODEC_PIPELINE__PATH": FUSED,
        "ZARR_ARRAY__SHARDING_COALESCE_MAX_GAP_BYTES": "0",
        "ZARR_ASYNC__CONCURRENCY": "1",
        "ZARR_THREADING__MAX_WORKERS": "1",
        "ZARR_CONFIG": str(folder / ".config" / "zarr"),
        "ZARR_ROOT_CONFIG": str(folder / ".config" / "zarr"),
        "DASK_CONFIG": str(folder / ".config" / "zarr"),
        "FSSPEC_S3": f'{{"endpoint_url": "{address}", "anon": false}}',
        "FSSPEC_S3_DEFAULT_BLOCK_SIZE": "17",
        "FSSPEC_CONFIG_DIR": str(folder / ".config" / "fsspec"),
        "NUMCODECS_ALLOW_UNSAFE_PICKLE_DECODE": "1",
        "BLOSC_NTHREADS": "1",
        "AIOHTTP_NO_EXTENSIONS": "1",
    }
    addresses = dict.fromkeys(
        [
            "AWS_ENDPOINT",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_S3",
            "AWS_PROXY_URL",
            "http_proxy",
            "HTTP_PROXY",
            "https_proxy",
            "ALL_PROXY",
            "TENSORSTORE_GCS_HTTP_URL",
            "GOOGLE_BASE_URL",
            "AZURE_STORAGE_ENDPOINT",
        ],
        address,
    )
    cloud = {
        "AWS_ALLOW_HTTP": "false",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_REQUEST_PAYER": "true",
        "AWS_S3_EXPRESS": "true",
        "AWS_CHECKSUM_ALGORITHM": "SHA256",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_RETRY_MODE": "adaptive",
        "AWS_DEFAULTS_MODE": "mobile",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "TENSORSTORE_S3_REQUEST_CONCURRENCY": "1",
        "TENSORSTORE_CURL_VERBOSE": "1",
        "TENSORSTORE_HTTP_THREADS": "1",
    }
    process = {
        "PYTHONASYNCIODEBUG": "1",
        "PYTHONDEVMODE": "1",
        "PYTHONHASHSEED": "7",
        "PYTHONMALLOC": "debug",
        "PYTHONOPTIMIZE": "2",
        "PYTHONPATH": str(folder / "packages"),
        "PYTHONTRACEMALLOC": "5",
        "PYTHONWARNINGS": "error",
        "PYTHON_CPU_COUNT": "1",
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_PERTURB_": "85",
        "GLIBC_TUNABLES": "glibc.malloc.check=3",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "NUMEXPR_MAX_THREADS": "1",
        "RAYON_NUM_THREADS": "1",
        "TOKIO_WORKER_THREADS": "1",
        "RUST_LOG": "trace",
        "LD_PRELOAD": str(folder / "nothing.so"),
        "LC_ALL": "C",
        "LANG": "C",
    }
    return zarr | addresses | cloud | process


LET_IN = {"AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "eu-north-1"}
"""Variables that reach libraries, who look for roles with them, and may change nothing."""


def files(folder: Path, address: str) -> None:
    """Write what a home folder may hold: settings of zarr, fsspec and botocore, and a package before all others."""
    texts = {
        ".config/zarr/zarr.yaml": f"codec_pipeline:\n  path: {FUSED}\narray:\n  sharding_coalesce_max_gap_bytes: 0\n",
        ".config/fsspec/conf.json": f'{{"s3": {{"endpoint_url": "{address}"}}}}',
        ".aws/config": "[default]\nregion = eu-north-1\nretry_mode = adaptive\nmax_attempts = 1\n"
        f"endpoint_url = {address}\ns3 =\n  addressing_style = virtual\n  use_accelerate_endpoint = true\n",
        ".aws/models/endpoints.json": "{}",
        ".netrc": "machine 127.0.0.1 login somebody password something\n",
        "packages/zarr.py": "raise ImportError('a module of the user\\'s, called like a library')\n",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
