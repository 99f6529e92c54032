"""What the threads of zarr-python's fused pipeline cost a whole read: seconds, CPU time, waits for each other.

``zcb store start --profile s3``, ``zcb data create --target embedded --preset demo``, then with any Python that has
zarr and obstore, so one without a global lock too: ``PYTHON_GIL=0 python3.14t studies/handoffs.py http://ADDRESS``, and
the same with ``PYTHON_GIL=1``. ``--threads 1`` gives the pipeline and zarr's own pool a thread each.
"""

import resource
import statistics
import sys
import time

import click
import zarr
from obstore.store import S3Store
from zarr.storage import ObjectStore
from zarr.types import AnyArray

_FUSED = "zarr.core.codec_pipeline.FusedCodecPipeline"
_DISCARDED = 2


@click.command()
@click.argument("endpoint")
@click.option("--threads", type=click.IntRange(min=1), help="Of each of the two pools (default: zarr's).")
@click.option("--reads", type=click.IntRange(min=1), default=7, show_default=True)
@click.option("--path", default="demo/small", show_default=True)
def main(endpoint: str, threads: int | None, reads: int, path: str) -> None:
    """Read a whole array over and over and print medians, without the first two reads."""
    pools = {} if threads is None else {"codec_pipeline.max_workers": threads, "threading.max_workers": threads}
    zarr.config.set({"codec_pipeline.path": _FUSED, "async.concurrency": 100, **pools})
    store = S3Store(
        "bench",
        endpoint=endpoint,
        region="us-east-1",
        skip_signature=True,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    array = zarr.open_array(ObjectStore(store, read_only=True), path=path, mode="r")
    costs = [_cost(array) for _ in range(_DISCARDED + reads)][_DISCARDED:]
    seconds, user, system, voluntary, involuntary = (statistics.median(each) for each in zip(*costs, strict=True))
    lock = "no global lock" if not getattr(sys, "_is_gil_enabled", lambda: True)() else "a global lock"
    click.echo(f"Python {sys.version.split()[0]}, {lock}, {threads or 'as many as zarr has'} threads: {seconds:.2f} s")
    click.echo(
        f"CPU s: {user:.2f} user, {system:.2f} system; switches: {voluntary:.0f} waits, {involuntary:.0f} others"
    )


def _cost(array: AnyArray) -> tuple[float, float, float, int, int]:
    """Read all of an array; return seconds, CPU seconds of program and kernel, voluntary and other switches."""
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    array[...]
    seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_SELF)
    return (
        seconds,
        after.ru_utime - before.ru_utime,
        after.ru_stime - before.ru_stime,
        after.ru_nvcsw - before.ru_nvcsw,
        after.ru_nivcsw - before.ru_nivcsw,
    )


if __name__ == "__main__":
    main()
