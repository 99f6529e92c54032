"""Random crops at any position, many under way at once: the training loop."""

from harness.asv import plain, tracked

CROPS = 64
SHAPES = {"1x64x64": (1, 64, 64), "4x128x128": (4, 128, 128)}
DATASETS = ["small", "large"]


class RandomCrops(tracked.Tracked):
    """64 crops of the shape `crop`, 16 at once, at positions that a seed decides; crops/s is 64 / seconds."""

    params = [tracked.READERS, DATASETS, list(SHAPES)]
    param_names = ["reader", "dataset", "crop"]

    def setup_cache(self):
        asked = {name: {"crop": shape, "crops": CROPS, "seed": 0} for name, shape in SHAPES.items()}
        grid = {(d, name): (d, asked[name]) for d in DATASETS for name in SHAPES}
        return tracked.run_pass("random_crops", tracked.READERS, grid)

    setup_cache.timeout = tracked.PASS_SECONDS


class PlainRandomCrops(plain.Plain):
    """The same read timed by asv itself, as a second source and for `asv profile`."""

    params = [tracked.PLAIN_READERS, ["small"], ["4x128x128"]]
    param_names = ["reader", "dataset", "crop"]

    def setup(self, reader, dataset, crop):
        self.prepare(reader, "random_crops", dataset, {"crop": SHAPES[crop], "crops": CROPS, "seed": 0})

    def time_read(self, reader, dataset, crop):
        self.read()
