"""The structure of a network: units, pruning groups, blocks, canonical JSON."""
