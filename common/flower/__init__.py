"""Flower, for both ends: the app bundle, payloads, the run's configuration."""
