"""What the benchmarks share: figures, runs, networks, fleets of processes."""
