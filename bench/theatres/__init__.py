"""Many theatres in the benchmarks: a listing each, from a service that takes its time for every answer."""
