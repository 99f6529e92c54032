"""A few chunks of one shard, with different gaps between them."""

from harness.asv import plain, tracked

GRID = tracked.grid("chunks_of_one_shard")
PLAIN = tracked.grid("chunks_of_one_shard", "plain")


class ChunksOfOneShard(tracked.Tracked):
    """Four chunks of one shard with `gap` stored chunks between them, in one call."""

    params = [tracked.READERS, *GRID.values]
    param_names = ["reader", *GRID.names]

    def setup_cache(self):
        return tracked.run_pass("chunks_of_one_shard", tracked.READERS, GRID.cases)

    setup_cache.timeout = tracked.PASS_SECONDS


class PlainChunksOfOneShard(plain.Plain):
    """The same read timed by asv itself, as a second source and for `asv profile`."""

    params = [tracked.PLAIN_READERS, *PLAIN.values]
    param_names = ["reader", *PLAIN.names]

    def setup(self, reader, *key):
        self.prepare(reader, PLAIN.cases[key])

    def time_read(self, *_):
        self.read()
