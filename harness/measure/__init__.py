"""The conductor: readers as processes that take turns, with the network limit and all counters around them."""
