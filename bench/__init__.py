"""The benchmarks, side by side with peers: `python -m bench`, and the long runs: `python -m bench.soak`."""
