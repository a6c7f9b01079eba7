"""The outbound movement in the benchmarks: orders to a stand-in for a target, and the long runs of it."""
