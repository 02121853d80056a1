"""Pages in a real browser: what lies off the edge, errors, violations, delays."""
