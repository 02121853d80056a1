"""Federations on one machine or a Ray cluster, experiments, reports, benchmarks."""
