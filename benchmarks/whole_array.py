"""The whole array into memory."""

from harness.asv import plain, tracked

GRID = tracked.grid("whole_array")
PLAIN = tracked.grid("whole_array", "plain")


class WholeArray(tracked.Tracked):
    """Every chunk of the array, in one call."""

    params = [tracked.READERS, *GRID.values]
    param_names = ["reader", *GRID.names]

    def setup_cache(self):
        return tracked.run_pass("whole_array", tracked.READERS, GRID.cases)

    setup_cache.timeout = tracked.PASS_SECONDS


class PlainWholeArray(plain.Plain):
    """The same read timed by asv itself, as a second source and for `asv profile`."""

    params = [tracked.PLAIN_READERS, *PLAIN.values]
    param_names = ["reader", *PLAIN.names]

    def setup(self, reader, *key):
        self.prepare(reader, PLAIN.cases[key])

    def time_read(self, *_):
        self.read()
