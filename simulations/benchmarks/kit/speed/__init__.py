"""Rows of the benchmark ``speed``, and the systems that it compares."""
