"""Data sets: what stands at a target, its manifest, its shards."""
