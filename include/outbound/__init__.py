"""The outbound engine: queue what changed, send it to targets, store the results."""
