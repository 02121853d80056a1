"""``flower-superlink`` of a FedPrune server: Flower's own, behind the gate.

It serves two ports (``doors.py``) and bounds the replies that it stores
(``uploads.py``).  Its names of Flower are undocumented (see
``server/devices/serverapp.py``).
"""

import os
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import uvicorn
from flwr.superlink import extensions
from flwr.superlink.cli import flower_superlink
from starlette.middleware import Middleware

from fedprune.common.system.logs import plain_logs
from fedprune.server.devices.gate import bounded
from fedprune.server.devices.gate.doors import Gate

Foreign: TypeAlias = Any  # an object of Flower whose type is not documented

# They would open ports of Flower's older interface, around the gate.
_OTHER_DOORS = ("FLWR_INTERNAL_GRPC_CONTROL_API", "FLWR_INTERNAL_GRPC_FLEET_API")
_LOOPBACK = "127.0.0.1"
_NOT_STARTED = 3


def main() -> None:
    """Serve: the control port and the token's file, then Flower's own words."""
    control, file = int(sys.argv[1]), Path(sys.argv[2])
    token = file.read_text(encoding="ascii").strip()
    if not token:
        sys.exit(f"{file} is empty; remove it and start the server again")
    sys.argv = [sys.argv[0], *sys.argv[3:]]
    for name in _OTHER_DOORS:
        os.environ.pop(name, None)
    plain_logs()
    bounded.install()
    gate = Middleware(Gate, control=control, token=token)
    hooks: Foreign = extensions
    hooks.get_middleware = lambda: (gate,)
    # Flower's package hides this module behind the function of the same name.
    flower: Foreign = import_module("flwr.superlink.cli.flower_superlink")
    flower.uvicorn = _Doors(control)
    flower_superlink()


class _Doors:
    """Stands for ``uvicorn`` in Flower's module: one app at two ports."""

    def __init__(self, control: int) -> None:
        self._control = control

    def run(
        self, *, app: Foreign, host: str, port: int, workers: int, **options: Foreign
    ) -> None:
        """Serve until the process is told to end."""
        if workers != 1 or not _has_gate(app):
            sys.exit("this Flower does not take the gate; want flwr>=1.41,<1.42")
        config = uvicorn.Config(app, host=host, port=port, **options)
        plain_logs()
        server = uvicorn.Server(config)
        server.run(sockets=[config.bind_socket(), _listen(self._control)])
        if not server.started:
            sys.exit(_NOT_STARTED)


def _has_gate(app: Foreign) -> bool:
    return any(layer.cls is Gate for layer in app.user_middleware[:1])


def _listen(port: int) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((_LOOPBACK, port))
    return found


if __name__ == "__main__":
    main()
