"""The key's file: private, made once, and refused where it is none."""

import pytest

from fedprune.common.errors import ConfigError
from fedprune.common.privacy import key as under_test
from fedprune.common.privacy.key import load_key


def test_a_key_is_made_once_in_the_state_folder_for_its_owner_only(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("FEDPRUNE_STATE", str(tmp_path / "state"))
    first = load_key("")
    file = tmp_path / "state" / "privacy.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_key("") == first
    file.unlink()
    assert load_key("") != first


def test_of_two_processes_that_make_a_key_the_first_one_s_stays(tmp_path, monkeypatch):
    """A run has begun with it, and could not be resumed with another."""
    monkeypatch.setenv("FEDPRUNE_STATE", str(tmp_path / "state"))
    write, first = under_test.write_bytes_atomic, []

    def late(path, data, **options):
        if not first:  # another process, after this one has looked
            first.append(None)
            first.append(load_key(""))
        write(path, data, **options)

    monkeypatch.setattr(under_test, "write_bytes_atomic", late)
    assert load_key("") == first[1] == load_key("")
    assert [one.name for one in (tmp_path / "state").iterdir()] == ["privacy.key"]


def test_a_key_of_the_operator_is_read_and_never_made(tmp_path):
    file = tmp_path / "own.key"
    with pytest.raises(ConfigError, match=r"own\.key: No such file"):
        load_key(str(file))
    assert not file.exists()
    file.write_text("ab" * 32 + "\n", encoding="ascii")
    file.chmod(0o600)
    assert load_key(str(file)).secret == b"\xab" * 32


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ab" * 31, "64 hex digits"),
        ("xy" * 32, "no key; want 64"),
        ("", "64 hex digits"),
        ("ab" * 40, "no key|64 hex"),
    ],
)
def test_what_is_no_key_is_one_line(tmp_path, text, words):
    file = tmp_path / "own.key"
    file.write_text(text, encoding="ascii")
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=words) as error:
        load_key(str(file))
    assert "\n" not in str(error.value)
    assert text[:20] not in str(error.value) or not text


def test_a_key_that_others_may_read_is_refused(tmp_path):
    file = tmp_path / "own.key"
    file.write_text("ab" * 32, encoding="ascii")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_key(str(file))


def test_a_link_to_a_key_is_refused(tmp_path):
    file = tmp_path / "own.key"
    file.write_text("ab" * 32, encoding="ascii")
    file.chmod(0o600)
    link = tmp_path / "link.key"
    link.symlink_to(file)
    with pytest.raises(ConfigError, match="no link"):
        load_key(str(link))
