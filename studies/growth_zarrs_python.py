"""Whether zarrs-python grows by itself, several calls at once reading one array that is opened again and again.

Nothing of ours takes part (docs/soak.md). Run it as
``python studies/growth_zarrs_python.py http://HOST:PORT BUCKET tiny/small 4000 8``, after ``zcb store start`` and
``zcb data create --target embedded --preset tiny``. Prints executions, anonymous memory in KiB and threads.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore.store
import zarr
import zarr.storage
import zarrs  # noqa: F401 - registers the pipeline

endpoint, bucket, key = sys.argv[1:4]
count, at_once = map(int, sys.argv[4:6])
zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 100})
threads = ThreadPoolExecutor(at_once)
for number in range(count + 1):
    there = obstore.store.S3Store(
        bucket,
        prefix=key,
        endpoint=endpoint,
        region="us-east-1",
        skip_signature=True,
        client_options={"allow_http": True},
    )
    store = zarr.storage.ObjectStore(there, read_only=True)
    array = zarr.open_array(store, mode="r", zarr_format=3)
    list(threads.map(array.__getitem__, [slice(None)] * at_once))
    if number % (count // 10) == 0:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        print(number, status["RssAnon"].strip(), status["Threads"].strip(), flush=True)  # noqa: T201
