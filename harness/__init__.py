"""How Zarr readers are measured: targets, workloads, readers, the conductor, counters, pages and commands."""
