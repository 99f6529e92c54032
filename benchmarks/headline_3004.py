"""The read that the published speed-up of zarr-python's #3004 was measured on, scaled."""

from harness.asv import plain, tracked

DATASET = "headline/gem3"
READS = [1]
"""The published figure is a median over 11 calls in sequence; asv's is one over samples of a call each."""


class Headline3004(tracked.Tracked):
    """A region of GEM3-like chunks of 1.8 MB, 64 to a shard, read `reads` times in sequence."""

    params = [tracked.READERS, READS]
    param_names = ["reader", "reads"]

    def setup_cache(self):
        grid = {(reads,): (DATASET, {"reads": reads}) for reads in READS}
        return tracked.run_pass("headline_3004", tracked.READERS, grid)

    setup_cache.timeout = tracked.PASS_SECONDS


class PlainHeadline3004(plain.Plain):
    """The same read timed by asv itself, as a second source and for `asv profile`."""

    params = [tracked.PLAIN_READERS, READS]
    param_names = ["reader", "reads"]

    def setup(self, reader, reads):
        self.prepare(reader, "headline_3004", DATASET, {"reads": reads})

    def time_read(self, reader, reads):
        self.read()
