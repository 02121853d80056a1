"""Waiting for answers: when a round closes, for how long it may last, whom it asks."""
