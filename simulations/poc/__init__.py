"""``fedprune poc``: a server and its devices on one machine, from nothing."""
