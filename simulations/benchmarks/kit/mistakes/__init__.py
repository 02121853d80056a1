"""Mistakes of a new user on the command line, and the one line that each must give."""
