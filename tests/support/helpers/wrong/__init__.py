"""Inputs that do not fit, and the ways by which a user hands them over."""
