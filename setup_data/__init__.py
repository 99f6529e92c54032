"""Writes and verifies the data sets that are read: sharded Zarr v3 arrays with a manifest beside each."""
