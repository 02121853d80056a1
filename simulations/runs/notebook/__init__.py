"""Runs in a notebook: progress, the result, the rounds as a table."""
