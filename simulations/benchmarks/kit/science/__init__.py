"""Rows of the benchmark ``science``: comparisons with several seeds and intervals."""
