"""The long runs: what takes too long for a test and is no benchmark. `python -m soak`."""
