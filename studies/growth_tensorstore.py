"""Whether tensorstore grows by itself, opening and reading one array again and again (docs/soak.md): nothing of ours.

``python studies/growth_tensorstore.py http://HOST:PORT BUCKET tiny/small 4000``, after ``zcb store start`` and
``zcb data create --target embedded --preset tiny``. Prints executions, anonymous memory in KiB and threads.
"""

import sys
from pathlib import Path

import tensorstore

endpoint, bucket, key, count = *sys.argv[1:4], int(sys.argv[4])
store = {"driver": "s3", "bucket": bucket, "path": f"{key}/", "endpoint": endpoint, "aws_region": "us-east-1"}
spec = {"driver": "zarr3", "kvstore": store | {"aws_credentials": {"type": "anonymous"}}}
for number in range(count + 1):
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 0}, "s3_request_concurrency": {"limit": 100}})
    tensorstore.open(spec, context=context, open=True, read=True).result().read(order="C").result()
    if number % (count // 10) == 0:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        print(number, status["RssAnon"].strip(), status["Threads"].strip(), flush=True)  # noqa: T201
