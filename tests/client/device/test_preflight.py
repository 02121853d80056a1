"""What a device finds out about a server before Flower connects to it."""

import socket
import ssl
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate

import pytest

from fedprune.client.device.preflight import Reach, try_server
from fedprune.common.errors import ConfigError
from fedprune.server.devices.certs import CertFolder, make_certificates

HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("certs")
    make_certificates(path, [HERE], ["edge-01"], 30)
    return CertFolder(path)


@contextmanager
def server(answer):
    """Let ``answer(socket)`` answer the first that connects; yield the port."""
    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(20)

        def accept():
            plain, _ = listener.accept()
            plain.settimeout(20)
            with plain:
                answer(plain)

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def over_tls(folder, head):
    """Return an answer over TLS with these lines of an HTTP head."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder.server, folder.server_key)

    def answer(plain):
        with context.wrap_socket(plain, server_side=True) as secure:
            secure.recv(1000)
            secure.sendall(f"HTTP/1.1 404 Not Found\r\n{head}\r\n\r\n".encode())

    return answer


def dated(skew):
    """Return the head of a server whose clock is ``skew`` seconds behind."""
    return f"Date: {formatdate(time.time() - skew, usegmt=True)}"


@pytest.mark.parametrize("head", ["", "Server: x", "Date: yesterday"])
def test_a_server_whose_clock_agrees_or_is_unknown_is_ready(folder, head):
    with server(over_tls(folder, head or dated(0.0))) as port:
        assert try_server(HERE, port, folder.ca) == (Reach.READY, "")


@pytest.mark.parametrize(
    ("skew", "side"), [(60.0, "60 s ahead of"), (-600.0, "600 s behind")]
)
def test_clocks_that_cannot_sign_are_told(folder, skew, side, monkeypatch):
    now = 1_800_000_000.0
    monkeypatch.setattr("fedprune.client.device.preflight.time.time", lambda: now)
    with (
        server(over_tls(folder, dated(skew))) as port,
        pytest.raises(ConfigError, match=f"clock is {side} the server's"),
    ):
        try_server(HERE, port, folder.ca)


def plain_http(plain):
    plain.recv(1000)
    plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_server_without_tls_is_ready_for_a_device_without(folder):
    with server(plain_http) as port:
        assert try_server(HERE, port, None) == (Reach.READY, "")


def test_a_server_without_tls_is_the_wrong_one_for_a_device_with_keys(folder):
    with (
        server(plain_http) as port,
        pytest.raises(ConfigError, match=r"does not speak TLS .*; is it --insecure\?"),
    ):
        try_server(HERE, port, folder.ca)


def test_a_server_that_hangs_up_is_away(folder):
    with server(lambda plain: plain.recv(1000)) as port:
        reach, why = try_server(HERE, port, folder.ca)
    assert reach is Reach.AWAY
    assert str(port) in why
