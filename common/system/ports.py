"""Ports of the loopback."""

import socket


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which no process listened a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
