"""The fixed list of networks of the coverage benchmark."""
