"""The benchmarks, each next to its competitors: `python -m bench`. The long runs are in `soak`."""
