"""Stand-ins for the external services, served over HTTP: for a first run, the tests and the benchmarks."""
