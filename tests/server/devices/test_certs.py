"""Certificates that TLS takes, keys that Flower takes, files for their owner only."""

import socket
import ssl
import stat
import threading

import pytest
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)
from flwr.cli.supernode.register import try_load_public_key

from fedprune.client.device.preflight import Reach, try_server
from fedprune.common.errors import ConfigError
from fedprune.server.devices.certs import CertFolder, make_certificates


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("certs")
    make_certificates(path, ["fed.example.org", "10.0.0.1"], ["edge-01", "b"], 30)
    return CertFolder(path)


@pytest.fixture
def tls_server(folder):
    """Serve TLS with the server's certificate; yield the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder.server, folder.server_key)
    listener = socket.create_server(("", 0))  # every address of the loopback
    ended = threading.Event()
    thread = threading.Thread(target=answer, args=(listener, context, ended))
    thread.start()
    yield listener.getsockname()[1]
    ended.set()
    thread.join()
    listener.close()


def answer(listener, context, ended):
    listener.settimeout(0.1)
    while not ended.is_set():
        try:
            plain, _ = listener.accept()
        except TimeoutError:
            continue
        plain.settimeout(5)
        try:
            with context.wrap_socket(plain, server_side=True) as secure:
                if secure.recv(1000):
                    secure.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")
        except (ssl.SSLError, OSError):
            plain.close()


def test_a_client_that_trusts_the_authority_reaches_the_server(folder, tls_server):
    reach, why = try_server("127.0.0.1", tls_server, folder.ca)
    assert (reach, why) == (Reach.READY, "")
    assert try_server("localhost", tls_server, folder.ca)[0] is Reach.READY


def test_another_authority_is_refused(tls_server, tmp_path):
    make_certificates(tmp_path, [], [], 30)
    with pytest.raises(ConfigError, match="not signed by"):
        try_server("127.0.0.1", tls_server, tmp_path / "ca.crt")


def test_a_name_that_the_certificate_does_not_hold_is_refused(folder, tls_server):
    with pytest.raises(ConfigError, match=r"certs DIR --host 127\.0\.0\.2"):
        try_server("127.0.0.2", tls_server, folder.ca)


def test_tls_on_one_side_only_is_told(folder, tls_server):
    with pytest.raises(ConfigError, match="speaks TLS"):
        try_server("127.0.0.1", tls_server, None)


def test_a_server_that_is_away_may_come(folder):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    reach, why = try_server("127.0.0.1", port, folder.ca)
    assert reach is Reach.AWAY
    assert "refused" in why


def test_the_certificate_holds_the_hosts_and_this_machine(folder):
    from cryptography import x509

    found = x509.load_pem_x509_certificate(folder.server.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fed.example.org", "localhost"]
    addresses = [str(a) for a in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["10.0.0.1", "127.0.0.1"]


def test_node_keys_are_what_flower_registers(folder):
    for name, public in folder.public_keys().items():
        assert name in {"edge-01", "b"}
        assert try_load_public_key(public)
        private = load_ssh_private_key((public.parent / "node.key").read_bytes(), None)
        known = load_ssh_public_key(public.read_bytes())
        assert private.public_key() == known


def test_keys_are_readable_for_their_owner_only(folder):
    keys = [*folder.path.rglob("*.key")]
    assert len(keys) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}


def test_a_second_call_adds_clients_and_changes_nothing_else(tmp_path):
    make_certificates(tmp_path, [], ["a"], 30)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    written = make_certificates(tmp_path, [], ["a", "new"], 30)
    assert {p.parent.name for p in written} == {"new"}
    assert all(path.read_bytes() == data for path, data in before.items())


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "x" * 101])
def test_a_client_s_name_is_no_path(tmp_path, name):
    with pytest.raises(ConfigError, match="letters"):
        make_certificates(tmp_path / "new", [], [name], 30)
    assert not (tmp_path / "new").exists()


def test_a_host_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="host name or an IP"):
        make_certificates(tmp_path, ["no host"], [], 30)


def test_a_folder_without_certificates_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="fedprune certs"):
        CertFolder(tmp_path).check()
