"""Profiles, the time that a run takes: activities, their cost, and samples of the stack."""
