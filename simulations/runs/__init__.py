"""Whole runs: start, resume, evaluate, summarise."""
