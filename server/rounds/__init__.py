"""The algorithm of a round at the server; no disk, no Flower."""
