"""Stand-ins for the outside services, over real sockets: for a first run, the tests and the benchmarks."""
