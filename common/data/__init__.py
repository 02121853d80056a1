"""Data sources, and the partition of their examples among clients."""
