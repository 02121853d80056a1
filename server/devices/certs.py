"""Certificates of a server and keys of its clients, in one folder.

::

    DIR/ca.crt ca.key           the authority; ca.key is needed only to sign more
    DIR/server.crt server.key   the server
    DIR/clients/NAME/           files of one device: ca.crt node.key node.pub

A second call adds clients and keeps existing files.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedprune.common.errors import ConfigError
from fedprune.common.flower.payload import check_client_name
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.paths import check_readable, make_private_folder

LOCAL_NAMES = ("localhost", "127.0.0.1")

_Key = ec.EllipticCurvePrivateKey
# A clock that is a little behind must not refuse a fresh certificate.
_BACKDATED = timedelta(hours=1)
# Each device has a copy of it, so it must outlive the server's certificates.
_CA_DAYS = 3650


@dataclass(frozen=True, slots=True)
class CertFolder:
    """Paths of the files in a folder of certificates.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def ca(self) -> Path:
        """Certificate that signs the server's; public."""
        return self.path / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The authority's key; keep it off the server."""
        return self.path / "ca.key"

    @property
    def server(self) -> Path:
        """The server's certificate; public."""
        return self.path / "server.crt"

    @property
    def server_key(self) -> Path:
        """The server's key."""
        return self.path / "server.key"

    @property
    def clients(self) -> Path:
        """A folder for each client."""
        return self.path / "clients"

    def public_keys(self) -> dict[str, Path]:
        """Return client name -> its public key, in order of the names."""
        return {p.parent.name: p for p in sorted(self.clients.glob("*/node.pub"))}

    def check(self) -> None:
        """Refuse a folder without the files that a server needs.

        Raises:
            ConfigError: If a file is missing or not readable; the message names it.
        """
        for path in (self.ca, self.server, self.server_key):
            check_readable(path, f"make it: fedprune certs {quote(str(self.path))}")


def make_certificates(
    path: Path, hosts: Sequence[str], clients: Sequence[str], days: int
) -> list[Path]:
    """Make the missing files of a folder of certificates.

    Args:
        path: The folder.
        hosts: Names and addresses at which clients reach the server; this machine's
            own are added.  None leaves the server's certificate as it is.
        clients: Names of clients.
        days: How long a new server's certificate is valid, >= 1; the authority's is
            for ten years at least.

    Returns:
        The files that were written.

    Raises:
        ConfigError: If a name is invalid, the folder cannot be used, or its
            authority has expired.
    """
    for name in clients:
        check_client_name(name)
    folder = CertFolder(path)
    written: list[Path] = []
    make_private_folder(folder.clients)
    if not folder.ca.exists():
        written += _make_ca(folder, days)
    if hosts or not folder.server.exists():
        written += _make_server(folder, hosts, days)
    for name in clients:
        written += _make_client(folder, name)
    return written


def certificate_lines(
    path: Path, written: Sequence[Path], clients: Sequence[str]
) -> Iterator[str]:
    """Yield what there is to say beside the files that a call has written.

    Args:
        path: The folder.
        written: The files that ``make_certificates`` returned.
        clients: Names of the clients that it was given.
    """
    folder = CertFolder(path)
    made = {file.parent for file in written}
    for name in dict.fromkeys(clients):
        if folder.clients / name not in made:
            yield f"client {name} has its key already: {folder.clients / name}"
    if not written:
        yield (
            f"nothing was written: {path} has it all; --client ID adds a key, "
            "--host NAME makes the server's certificate anew"
        )
    if clients:
        yield f"copy {folder.clients}/ID to each device; keep ca.key off them"


def _make_ca(folder: CertFolder, days: int) -> list[Path]:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "FedPrune CA")])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True,
        crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        _builder(name, name, key, _in_days(max(days, _CA_DAYS)))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    certificate = builder.sign(key, hashes.SHA384())
    _write_key(folder.ca_key, key, serialization.PrivateFormat.PKCS8)
    _write(folder.ca, certificate.public_bytes(serialization.Encoding.PEM))
    return [folder.ca, folder.ca_key]


def _make_server(folder: CertFolder, hosts: Sequence[str], days: int) -> list[Path]:
    authority, signer = _read_ca(folder)
    names = list(dict.fromkeys((*hosts, *LOCAL_NAMES)))
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    end = min(_in_days(days), authority.not_valid_after_utc)
    builder = (
        _builder(subject, authority.subject, key, end)
        .add_extension(
            x509.SubjectAlternativeName([_general(host) for host in names]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
    )
    certificate = builder.sign(signer, hashes.SHA384())
    _write_key(folder.server_key, key, serialization.PrivateFormat.PKCS8)
    _write(folder.server, certificate.public_bytes(serialization.Encoding.PEM))
    return [folder.server, folder.server_key]


def _make_client(folder: CertFolder, name: str) -> list[Path]:
    """Make a client's folder; an existing key is kept, as the server may know it."""
    home = folder.clients / name
    private, public = home / "node.key", home / "node.pub"
    if private.exists() and public.exists():
        return []
    make_private_folder(home)
    key = ec.generate_private_key(ec.SECP384R1())
    _write_key(private, key, serialization.PrivateFormat.OpenSSH)
    text = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    _write(public, text + b"\n")
    _write(home / "ca.crt", folder.ca.read_bytes())
    return [private, public, home / "ca.crt"]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _BACKDATED)
        .not_valid_after(end)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not re.fullmatch(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", host):
        msg = f'--host: found "{host}", want a host name or an IP address'
        raise ConfigError(msg)
    return x509.DNSName(host)


def read_certificate(path: Path) -> x509.Certificate:
    """Return the certificate in a file.

    Raises:
        ConfigError: If the file has none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        msg = f"{path} has no certificate: {error}"
        raise ConfigError(msg) from error


def _read_ca(folder: CertFolder) -> tuple[x509.Certificate, _Key]:
    certificate = read_certificate(folder.ca)
    end = certificate.not_valid_after_utc
    if end < datetime.now(UTC):
        msg = (
            f"{folder.ca} expired on {end:%Y-%m-%d}; make another folder of "
            "certificates; devices need its ca.crt"
        )
        raise ConfigError(msg)
    try:
        key = serialization.load_pem_private_key(folder.ca_key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        msg = f"cannot sign with {folder.ca_key}: {error}"
        raise ConfigError(msg) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        msg = f"{folder.ca_key} has no elliptic-curve key"
        raise ConfigError(msg)
    return certificate, key


def _in_days(days: int) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def _write_key(path: Path, key: _Key, form: serialization.PrivateFormat) -> None:
    text = key.private_bytes(
        serialization.Encoding.PEM, form, serialization.NoEncryption()
    )
    write_bytes_atomic(path, text, mode=0o600)


def _write(path: Path, data: bytes) -> None:
    write_bytes_atomic(path, data, mode=0o644)
