"""What the codec's benchmarks share: captured updates, rivals, inputs."""
