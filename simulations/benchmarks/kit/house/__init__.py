"""What the benchmark of the house measures with: imports, walks, repeats."""
