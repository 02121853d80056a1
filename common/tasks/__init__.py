"""Tasks: what a federation learns, with which network, on which data."""
