"""Data sources, and who holds which part of them."""
