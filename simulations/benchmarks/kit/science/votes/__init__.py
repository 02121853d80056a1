"""The row ``votes``: how well criteria of importance rank the units of a network."""
