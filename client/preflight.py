"""Whether the server can be reached and is the right one, told before Flower tries."""

import socket
import ssl
from enum import Enum
from pathlib import Path

from common.errors import ConfigError

_TIMEOUT_S = 5.0


class Reach(Enum):
    """What came of an attempt."""

    READY = "ready"
    AWAY = "away"


def try_server(host: str, port: int, authority: Path | None) -> tuple[Reach, str]:
    """Try to reach a server.

    Args:
        host: Its name or address.
        port: Its port.
        authority: Certificate that must have signed the server's; None = no TLS.

    Returns:
        Whether it is there, and what is wrong when it is not there yet.

    Raises:
        ConfigError: If waiting does not help: another certificate, another name,
            TLS on one side only.
    """
    context = ssl.create_default_context(cafile=authority)
    if authority is None:
        # Only to find out whether the server speaks TLS; nothing is sent.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            pass
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(_explain(host, port, authority, error)) from error
    except ssl.SSLError as error:
        if authority is None:
            return Reach.READY, ""
        msg = f"{host}:{port} does not speak TLS ({error.reason}); is it --insecure?"
        raise ConfigError(msg) from error
    except OSError as error:
        if authority is None and isinstance(error, ConnectionResetError | TimeoutError):
            return Reach.READY, ""
        return Reach.AWAY, f"{host}:{port}: {error.strerror or error}"
    if authority is None:
        msg = f"{host}:{port} speaks TLS; want --tls DIR instead of --insecure"
        raise ConfigError(msg)
    return Reach.READY, ""


def _explain(
    host: str, port: int, authority: Path | None, error: ssl.SSLCertVerificationError
) -> str:
    """Return what is wrong with a certificate and what to do about it."""
    found = error.verify_message
    if "not yet valid" in found or "expired" in found:
        hint = "set this machine's clock, or make a new one: fedprune certs DIR --host"
    elif "hostname" in found.lower() or "ip address" in found.lower():
        hint = f"make one that names it: fedprune certs DIR --host {host}"
    else:
        hint = f"it is not signed by {authority}; copy the ca.crt of this server"
    return f"the certificate of {host}:{port} is refused: {found}; {hint}"
