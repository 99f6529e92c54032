"""The embedded object store's life: build, start, stop, state and counters."""
