"""Shared parts of the benchmarks: figures, runs, networks, fleets of processes."""
