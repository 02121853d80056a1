"""Check that a Ray cluster answers, before any heavy import.

``ray.init`` itself waits for minutes for a missing cluster.
"""

import os
import re
import socket
import threading
from pathlib import Path

from fedprune.common.errors import ConfigError

_WAIT_S = 4.0  # each for the connection and for the greeting of gRPC
_SLACK_S = 1.0
_PORTS = 65536
_ADDRESS = re.compile(r"(?:ray://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")
_WANTED = "want HOST:PORT, ray://HOST:PORT or auto; leave it out for a local Ray"


def reachable(address: object) -> str:
    """Return the address to join, after a Ray cluster has answered there.

    Args:
        address: ``HOST:PORT``, ``ray://HOST:PORT``, ``auto`` (what RAY_ADDRESS says,
            or the last ``ray start`` on this machine), or empty for a local Ray, which
            is not checked.

    Raises:
        ConfigError: If it is malformed or nothing answers within ten seconds.
    """
    if not isinstance(address, str):
        msg = f"Ray address: found {type(address).__name__}, want a string"
        raise ConfigError(msg)
    if not address:
        return ""
    found = _automatic() if address == "auto" else address
    said = f'Ray address "{address}"'
    said += f" (it means {found})" if found != address else ""
    match = _ADDRESS.fullmatch(found)
    if match is None or not 0 < int(match[2]) < _PORTS:
        msg = f"{said}: {_WANTED}"
        raise ConfigError(msg)
    problem = _probe(match[1].strip("[]"), int(match[2]))
    if problem:
        msg = f"{said}: {problem}; is the cluster up, and does it listen there?"
        raise ConfigError(msg)
    return found


def _automatic() -> str:
    """Return the address of ``auto``."""
    named = os.environ.get("RAY_ADDRESS", "")
    if named and named != "auto":
        return named
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
    try:
        note = Path(folder) / "ray/ray_current_cluster"
        return note.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        msg = (
            'Ray address "auto": no cluster was started on this machine and '
            "RAY_ADDRESS is not set; start one with ray start --head, or name HOST:PORT"
        )
        raise ConfigError(msg) from error


def _probe(host: str, port: int) -> str:
    """Return why no Ray cluster answers, or "".

    Runs in a thread, since a name lookup has no time limit of its own.
    """
    found: list[str] = []
    thread = threading.Thread(
        target=lambda: found.append(_ask(host, port)), daemon=True
    )
    thread.start()
    thread.join(2 * _WAIT_S + _SLACK_S)
    return found[0] if found else "nothing answers"


def _ask(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), timeout=_WAIT_S).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        return f"nothing answers ({reason})"
    if os.environ.get("RAY_USE_TLS", "0") == "1":
        return ""
    import grpc  # noqa: PLC0415 - help must not wait for it

    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(target, options=options) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_WAIT_S)
        except grpc.FutureTimeoutError:
            return "the service there is not Ray"
    return ""
