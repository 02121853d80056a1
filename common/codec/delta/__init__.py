"""The coding of one update: quantised values, their positions, the header."""
