"""Engines carry a round's plan to clients: in this process or on Ray."""
