"""Rows of the benchmark ``trust``: federations with hostile clients."""
