"""Measurements with goals; each module is run with ``python -m``."""
