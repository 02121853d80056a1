"""Client-level differential privacy: noise, its secret key, and what a run spends."""
