"""A few chunks of one shard, with different gaps between them."""

from harness.asv import plain, tracked

GAPS = {"small": [0, 1, 3, 15], "large": [0, 1, 3]}


class ChunksOfOneShard(tracked.Tracked):
    """Four chunks of one shard with `gap` stored chunks between them, in one call."""

    params = [tracked.READERS, list(GAPS), GAPS["small"]]
    param_names = ["reader", "dataset", "gap"]

    def setup_cache(self):
        grid = {(d, gap): (d, {"gap": gap}) for d, gaps in GAPS.items() for gap in gaps}
        return tracked.run_pass("chunks_of_one_shard", tracked.READERS, grid)

    setup_cache.timeout = tracked.PASS_SECONDS


class PlainChunksOfOneShard(plain.Plain):
    """The same read timed by asv itself, as a second source and for `asv profile`."""

    params = [tracked.PLAIN_READERS, ["small"], [0, 15]]
    param_names = ["reader", "dataset", "gap"]

    def setup(self, reader, dataset, gap):
        self.prepare(reader, "chunks_of_one_shard", dataset, {"gap": gap})

    def time_read(self, reader, dataset, gap):
        self.read()
