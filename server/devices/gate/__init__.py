"""The gate in front of Flower's SuperLink: its two ports, and the limit of replies."""
