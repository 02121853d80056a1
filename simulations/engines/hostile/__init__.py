"""Hostile clients of a simulation: who they are, what they know, what they send."""
