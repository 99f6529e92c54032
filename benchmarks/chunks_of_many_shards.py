"""A few chunks of each of many shards, in one call."""

from harness.asv import plain, tracked

SHARDS = {"small": [1, 4, 16, 64], "large": [1, 4]}


class ChunksOfManyShards(tracked.Tracked):
    """Four chunks, every other one, of each of `shards` shards that lie beside each other."""

    params = [tracked.READERS, list(SHARDS), SHARDS["small"]]
    param_names = ["reader", "dataset", "shards"]

    def setup_cache(self):
        grid = {(d, n): (d, {"shards": n}) for d, counts in SHARDS.items() for n in counts}
        return tracked.run_pass("chunks_of_many_shards", tracked.READERS, grid)

    setup_cache.timeout = tracked.PASS_SECONDS


class PlainChunksOfManyShards(plain.Plain):
    """The same read timed by asv itself, as a second source and for `asv profile`."""

    params = [tracked.PLAIN_READERS, ["small"], [16]]
    param_names = ["reader", "dataset", "shards"]

    def setup(self, reader, dataset, shards):
        self.prepare(reader, "chunks_of_many_shards", dataset, {"shards": shards})

    def time_read(self, reader, dataset, shards):
        self.read()
