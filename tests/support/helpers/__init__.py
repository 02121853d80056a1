"""Helpers shared by tests: tiny federations, processes, scripts."""
