"""Checks of a server's port, certificates and keys, before Flower starts."""

import errno
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from fedprune.common.errors import ConfigError
from fedprune.server.devices.certs import CertFolder, read_certificate

_SOON = timedelta(days=30)
_WHY = {
    errno.EADDRINUSE: "in use by another process",
    errno.EADDRNOTAVAIL: "not an address of this machine",
    errno.EACCES: "not for this user; want a port from 1024 up",
}


def check_port(option: str, host: str, port: int) -> None:
    """Refuse an address that cannot be listened at.

    Args:
        option: Command-line option that names it.
        host: Address of this machine, or "0.0.0.0" or "::" for all.
        port: 1 to 65535.

    Raises:
        ConfigError: If it is in use, belongs to another machine, or the user may not
            listen there.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            # Recently closed connections do not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        why = _WHY.get(error.errno or 0, error.strerror or str(error))
        msg = f"{option}: {host}:{port} is {why}"
        raise ConfigError(msg) from error


def check_certificates(folder: CertFolder) -> Sequence[str]:
    """Refuse unusable certificates and keys of a server.

    Returns:
        One line for each certificate that expires within 30 days.

    Raises:
        ConfigError: If a file is missing or has other content, certificate and key do
            not match, or one has expired; the message names it.
    """
    folder.check()
    _check_pair(folder)
    authority, server = read_certificate(folder.ca), read_certificate(folder.server)
    try:
        server.verify_directly_issued_by(authority)
    except (InvalidSignature, TypeError, ValueError) as error:
        msg = f"{folder.server} is not signed by {folder.ca}; {_remake(folder.path)}"
        raise ConfigError(msg) from error
    for path in folder.public_keys().values():
        _check_public(path)
    ends = [(folder.ca, authority), (folder.server, server)]
    return [line for path, found in ends if (line := _ends(path, found))]


def _check_pair(folder: CertFolder) -> None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder.server, folder.server_key)
    except OSError as error:
        why: object = error
        if isinstance(error, ssl.SSLError):
            why = error.reason or "not PEM files"
        msg = (
            f"{folder.server} and {folder.server_key} cannot be used: "
            f"{why}; {_remake(folder.path)}"
        )
        raise ConfigError(msg) from error


def _check_public(path: Path) -> None:
    try:
        load_ssh_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        msg = (
            f"{path} is not a public key; remove the client's folder and make another: "
            f"fedprune certs {quote(str(path.parents[2]))} --client {path.parent.name}"
        )
        raise ConfigError(msg) from error


def _ends(path: Path, found: x509.Certificate) -> str:
    """Return a warning about a certificate that expires soon, or "".

    Raises:
        ConfigError: If it is not valid now.
    """
    now = datetime.now(UTC)
    first, last = found.not_valid_before_utc, found.not_valid_after_utc
    again = f"make another: fedprune certs {quote(str(path.parent))} --host NAME"
    if path.name == CertFolder(path.parent).ca.name:
        again = "make another folder of certificates; devices need its ca.crt"
    if now > last:
        msg = f"{path} expired on {last:%Y-%m-%d}; {again}"
        raise ConfigError(msg)
    if now < first:
        msg = f"{path} is valid from {first:%Y-%m-%d %H:%M} UTC; set the clock"
        raise ConfigError(msg)
    return f"{path} expires on {last:%Y-%m-%d}; {again}" if last - now < _SOON else ""


def _remake(path: Path) -> str:
    return f"make another: fedprune certs {quote(str(path))} --host NAME"
