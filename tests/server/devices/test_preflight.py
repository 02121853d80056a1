"""A server that cannot start says why in one line, before Flower is started."""

import shutil
import socket
from datetime import UTC, datetime, timedelta

import pytest

from fedprune.common.errors import ConfigError
from fedprune.server.devices import certs, preflight
from fedprune.server.devices.certs import CertFolder, make_certificates
from fedprune.server.devices.preflight import check_certificates, check_port


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("certs")
    make_certificates(path, ["fed.example.org"], ["edge-01"], 90)
    return path


@pytest.fixture
def folder(made, tmp_path):
    """Return a copy that a test may spoil."""
    return CertFolder(shutil.copytree(made, tmp_path / "certs"))


@pytest.fixture
def today(monkeypatch):
    """Return a function that moves the clock by some days."""

    def move(days):
        class Moved(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + timedelta(days=days)

        for module in (certs, preflight):
            monkeypatch.setattr(module, "datetime", Moved)

    return move


def test_what_certs_made_is_taken_without_a_word(folder):
    assert check_certificates(folder) == []


def spoil(name):
    def change(folder):
        (folder.path / name).write_text("garbage")

    return change


def swap_key(folder):
    make_certificates(folder.path / "other", [], [], 30)
    shutil.copy(folder.path / "other" / "server.key", folder.server_key)


def swap_authority(folder):
    make_certificates(folder.path / "other", [], [], 30)
    shutil.copy(folder.path / "other" / "ca.crt", folder.ca)


BROKEN = {
    "no authority": (lambda f: f.ca.unlink(), r"ca\.crt is missing; make it"),
    "no certificate": (spoil("server.crt"), r"server\.crt and .* cannot be used"),
    "no key": (spoil("server.key"), r"server\.key cannot be used"),
    "another key": (swap_key, r"cannot be used: KEY_VALUES_MISMATCH"),
    "authority of garbage": (spoil("ca.crt"), r"ca\.crt has no certificate"),
    "another authority": (swap_authority, r"server\.crt is not signed by .*ca\.crt"),
    "a client's key": (
        spoil("clients/edge-01/node.pub"),
        r"node\.pub is not a public key; .* --client edge-01$",
    ),
}


@pytest.mark.parametrize(("change", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_folder_is_refused_with_the_file(folder, change, words):
    change(folder)
    with pytest.raises(ConfigError, match=words):
        check_certificates(folder)


def test_a_certificate_that_ends_soon_is_told_and_one_that_ended_is_refused(
    folder, today
):
    end = datetime.now(UTC) + timedelta(days=90)
    today(61)
    (line,) = check_certificates(folder)
    assert f"server.crt expires on {end:%Y-%m-%d}; make another" in line
    today(91)
    with pytest.raises(ConfigError, match=r"server\.crt expired on .* --host NAME"):
        check_certificates(folder)
    # The advice works: the authority, of which each device has a copy, is kept.
    before = folder.ca.read_bytes()
    make_certificates(folder.path, ["fed.example.org"], [], 90)
    assert check_certificates(folder) == []
    assert folder.ca.read_bytes() == before


def test_an_authority_that_ended_signs_nothing_more(folder, today):
    today(3651)
    with pytest.raises(ConfigError, match=r"ca\.crt expired on .* devices need"):
        make_certificates(folder.path, ["fed.example.org"], [], 90)
    with pytest.raises(ConfigError, match="expired on"):
        check_certificates(folder)


def test_no_certificate_outlives_its_authority(tmp_path, today):
    make_certificates(tmp_path, [], [], 1)
    today(3600)
    make_certificates(tmp_path, ["a"], [], 365)
    folder = CertFolder(tmp_path)
    ends = {
        certs.read_certificate(path).not_valid_after_utc
        for path in (folder.ca, folder.server)
    }
    assert len(ends) == 1


def test_a_certificate_of_tomorrow_names_the_clock(folder, today):
    today(-2)
    with pytest.raises(ConfigError, match="set the clock"):
        check_certificates(folder)


def test_a_free_port_is_taken_and_one_in_use_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"^--listen: 127\.0\.0\.1:{port} is in use by another"
        ):
            check_port("--listen", "127.0.0.1", port)
        with pytest.raises(ConfigError, match="in use"):
            check_port("--listen", "0.0.0.0", port)  # noqa: S104 - refused, not bound
    check_port("--listen", "127.0.0.1", port)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ConfigError, match=r"--metrics: 192\.0\.2\.1:\d+ is not an add"):
        check_port("--metrics", "192.0.2.1", 9464)
