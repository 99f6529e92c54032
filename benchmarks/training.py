"""How well a training loop is fed with batches of random crops, by each reader in one process."""

from harness.asv import fed, tracked


class Training(fed.FedLoop):
    """Batches of 8 crops of 4x128x128, four batches ahead, a step of 20 ms; docs/training.md."""

    params = [fed.ARMS]
    param_names = ["arm"]

    def setup_cache(self):
        return fed.run_pass(fed.ARMS)

    setup_cache.timeout = tracked.PASS_SECONDS
