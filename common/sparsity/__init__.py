"""Penalties that make exact zeros, weight masks, and sparsification of deltas."""
