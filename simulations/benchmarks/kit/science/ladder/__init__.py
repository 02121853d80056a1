"""The row ``ladder``: networks of one size, cut to it or trained at it."""
