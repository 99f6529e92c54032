"""asv's side: what it loads, looks up, builds and is configured by."""
