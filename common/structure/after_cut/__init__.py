"""Modules that run after a cut where their own code would not."""
