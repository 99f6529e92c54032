"""Random crops at any position, many under way at once: the training loop."""

from harness.asv import plain, tracked

GRID = tracked.grid("random_crops")
PLAIN = tracked.grid("random_crops", "plain")


class RandomCrops(tracked.Tracked):
    """64 crops of the shape `crop`, 16 at once, at positions that a seed decides; crops/s is 64 / seconds."""

    params = [tracked.READERS, *GRID.values]
    param_names = ["reader", *GRID.names]

    def setup_cache(self):
        return tracked.run_pass("random_crops", tracked.READERS, GRID.cases)

    setup_cache.timeout = tracked.PASS_SECONDS


class PlainRandomCrops(plain.Plain):
    """The same read timed by asv itself, as a second source and for `asv profile`."""

    params = [tracked.PLAIN_READERS, *PLAIN.values]
    param_names = ["reader", *PLAIN.names]

    def setup(self, reader, *key):
        self.prepare(reader, PLAIN.cases[key])

    def time_read(self, *_):
        self.read()
