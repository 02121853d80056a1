"""Rows of the benchmark of tasks."""
