"""Faults of a simulation's clients, drawn from its seed, in virtual time."""
