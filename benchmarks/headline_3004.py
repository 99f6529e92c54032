"""The read that the published speed-up of zarr-python's #3004 was measured on, scaled."""

from harness.asv import plain, tracked

GRID = tracked.grid("headline_3004")
PLAIN = tracked.grid("headline_3004", "plain")


class Headline3004(tracked.Tracked):
    """A region of GEM3-like chunks of 1.8 MB, 64 to a shard, read `reads` times in sequence."""

    params = [tracked.READERS, *GRID.values]
    param_names = ["reader", *GRID.names]

    def setup_cache(self):
        return tracked.run_pass("headline_3004", tracked.READERS, GRID.cases)

    setup_cache.timeout = tracked.PASS_SECONDS


class PlainHeadline3004(plain.Plain):
    """The same read timed by asv itself, as a second source and for `asv profile`."""

    params = [tracked.PLAIN_READERS, *PLAIN.values]
    param_names = ["reader", *PLAIN.names]

    def setup(self, reader, *key):
        self.prepare(reader, PLAIN.cases[key])

    def time_read(self, *_):
        self.read()
