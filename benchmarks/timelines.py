"""Where the time of each chunk goes: one recorded execution per reader and read."""

from harness.asv import recorded as timeline_pass
from harness.asv import tracked

READS = timeline_pass.reads()
# A quick job records the readers that it is about: what others show needs minutes.
READERS = tracked.PLAIN_READERS if tracked.is_quick() else tracked.READERS


class Timelines(timeline_pass.Recorded):
    """Five events per chunk, on the page Timelines; never a throughput figure, since the recorder runs along."""

    params = [READERS, list(READS)]
    param_names = ["reader", "read"]

    def setup_cache(self):
        return timeline_pass.run_pass(READERS, READS)

    setup_cache.timeout = tracked.PASS_SECONDS
