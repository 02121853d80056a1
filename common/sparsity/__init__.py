"""Penalties that make exact zeros, and the choice of what a message holds."""
