"""Profiles of a run, by time: activities, their cost, and samples of the stack."""
