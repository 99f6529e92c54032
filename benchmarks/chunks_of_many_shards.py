"""A few chunks of each of many shards, in one call."""

from harness.asv import plain, tracked

GRID = tracked.grid("chunks_of_many_shards", without="large")
LARGE = tracked.grid("chunks_of_many_shards", only="large")
PLAIN = tracked.grid("chunks_of_many_shards", "plain")


class ChunksOfManyShards(tracked.Tracked):
    """Four chunks, every other one, of each of `shards` shards that lie beside each other."""

    params = [tracked.READERS, *GRID.values]
    param_names = ["reader", *GRID.names]

    def setup_cache(self):
        return tracked.run_pass("chunks_of_many_shards", tracked.READERS, GRID.cases)

    setup_cache.timeout = tracked.PASS_SECONDS


class ChunksOfManyLargeShards(tracked.Tracked):
    """The same of `large`, which has four shards: asv knows no grid with a corner missing."""

    params = [tracked.READERS, *LARGE.values]
    param_names = ["reader", *LARGE.names]

    def setup_cache(self):
        return tracked.run_pass("chunks_of_many_large_shards", tracked.READERS, LARGE.cases)

    setup_cache.timeout = tracked.PASS_SECONDS


class PlainChunksOfManyShards(plain.Plain):
    """The same read timed by asv itself, as a second source and for `asv profile`."""

    params = [tracked.PLAIN_READERS, *PLAIN.values]
    param_names = ["reader", *PLAIN.names]

    def setup(self, reader, *key):
        self.prepare(reader, PLAIN.cases[key])

    def time_read(self, *_):
        self.read()
