"""An array window by window, in bounded memory."""

from harness.asv import tracked

GRID = tracked.grid("stream")


class Stream(tracked.Tracked):
    """Half a GiB of the data set `dataset` in windows of 128 MiB, one after another."""

    params = [tracked.READERS, *GRID.values]
    param_names = ["reader", *GRID.names]

    def setup_cache(self):
        return tracked.run_pass("stream", tracked.READERS, GRID.cases)

    setup_cache.timeout = tracked.PASS_SECONDS
