"""Trackers, read back by their own packages."""
