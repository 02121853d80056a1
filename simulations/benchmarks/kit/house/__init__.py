"""Measures of the code: imports, traces of calls, repeated work."""
