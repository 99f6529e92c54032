"""The whole array into memory."""

from harness.asv import plain, tracked

DATASETS = ["small", "large"]


class WholeArray(tracked.Tracked):
    """Every chunk of the array, in one call."""

    params = [tracked.READERS, DATASETS]
    param_names = ["reader", "dataset"]

    def setup_cache(self):
        return tracked.run_pass("whole_array", tracked.READERS, {(d,): (d, {}) for d in DATASETS})

    setup_cache.timeout = tracked.PASS_SECONDS


class PlainWholeArray(plain.Plain):
    """The same read timed by asv itself, as a second source and for `asv profile`."""

    params = [tracked.PLAIN_READERS, ["large"]]
    param_names = ["reader", "dataset"]

    def setup(self, reader, dataset):
        self.prepare(reader, "whole_array", dataset, {})

    def time_read(self, reader, dataset):
        self.read()
