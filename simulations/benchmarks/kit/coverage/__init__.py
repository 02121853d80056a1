"""Coverage of the structure engine: list of networks, and measurement of one."""
