"""Rows of the benchmark ``trust``: what one client, one device or time can do."""
