"""Check that the server is reachable and the right one, before Flower connects."""

import re
import socket
import ssl
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from enum import Enum
from pathlib import Path

from fedprune.common.errors import ConfigError

_TIMEOUT_S = 5.0
_ANSWER = 4096
# Flower signs the time into every request of a node with a key, and accepts up to 5 s
# ahead and 305 s behind; an HTTP date is exact to a second.
_AHEAD_S = 4.0
_BEHIND_S = 300.0


class Reach(Enum):
    """Result of an attempt."""

    READY = "ready"
    AWAY = "away"


def try_server(host: str, port: int, authority: Path | None) -> tuple[Reach, str]:
    """Try to reach a server.

    Args:
        host: Its name or address.
        port: Its port.
        authority: Certificate that must have signed the server's; None = no TLS.

    Returns:
        The result, and the reason when the server is not reachable yet.

    Raises:
        ConfigError: If waiting does not help: another certificate, another name,
            TLS on one side only.
    """
    context = ssl.create_default_context(cafile=authority)
    if authority is None:
        # Only detects whether the server uses TLS; nothing is sent.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            _check_clock(host, secure)
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(_explain(host, port, authority, error)) from error
    except ssl.SSLError as error:
        return _without_tls(f"{host}:{port}", authority, error)
    except OSError as error:
        if authority is None and isinstance(error, ConnectionResetError | TimeoutError):
            return Reach.READY, ""
        return Reach.AWAY, f"{host}:{port}: {error.strerror or error}"
    if authority is None:
        msg = f"{host}:{port} speaks TLS; want --tls DIR instead of --insecure"
        raise ConfigError(msg)
    return Reach.READY, ""


def _without_tls(
    place: str, authority: Path | None, error: ssl.SSLError
) -> tuple[Reach, str]:
    if authority is None:
        return Reach.READY, ""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Reach.AWAY, f"{place} closed the connection"
    msg = f"{place} does not speak TLS ({error.reason}); is it --insecure?"
    raise ConfigError(msg) from error


def _check_clock(host: str, secure: ssl.SSLSocket) -> None:
    """Compare this machine's clock with that of the server's answer.

    Raises:
        ConfigError: If they are further apart than Flower's signatures allow.
    """
    secure.sendall(
        f"HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    )
    head = secure.recv(_ANSWER).decode("latin-1")
    found = re.search(r"^date: *(.+?)\r?$", head, re.IGNORECASE | re.MULTILINE)
    if found is None:
        return
    with suppress(ValueError):
        theirs = parsedate_to_datetime(found[1]).timestamp()
        skew = time.time() - theirs
        if not -_BEHIND_S <= skew <= _AHEAD_S:
            side = "ahead of" if skew > 0 else "behind"
            msg = (
                f"this machine's clock is {abs(skew):.0f} s {side} the server's; at "
                f"most {_AHEAD_S:g} s ahead or {_BEHIND_S:g} s behind can sign; set it"
            )
            raise ConfigError(msg)


def _explain(
    host: str, port: int, authority: Path | None, error: ssl.SSLCertVerificationError
) -> str:
    """Return the error of a certificate and its remedy."""
    found = error.verify_message
    if "not yet valid" in found or "expired" in found:
        hint = "set this machine's clock, or make a new one: fedprune certs DIR --host"
    elif "hostname" in found.lower() or "ip address" in found.lower():
        hint = f"make one that names it: fedprune certs DIR --host {host}"
    else:
        hint = f"it is not signed by {authority}; copy the ca.crt of this server"
    return f"the certificate of {host}:{port} is refused: {found}; {hint}"
