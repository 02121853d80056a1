"""The coding of a broadcast: integers on a grid per row, whole or as a difference."""
