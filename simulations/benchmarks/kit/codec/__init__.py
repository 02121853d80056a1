"""Shared parts of the codec's benchmarks: captured updates, rivals, inputs."""
