"""The gate in front of Flower's SuperLink: who may ask what, and how much is stored."""
