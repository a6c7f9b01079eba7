"""Who is compared: one module each, run in a process of its own. The list is `bench.entries`."""
