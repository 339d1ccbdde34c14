"""Pure networks, no Lightning: one file a network."""
