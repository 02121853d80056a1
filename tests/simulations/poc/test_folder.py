"""The folder of a proof of concept: made once, continued with the same settings."""

import json

import pytest

from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.simulations.poc.folder import Settings, keep_settings, open_folder

NOTHING = {"clients": None, "data": None, "overrides": ()}


def test_a_new_folder_has_three_devices_with_digits(tmp_path):
    folder, settings = open_folder(tmp_path / "new", **NOTHING)
    assert settings == Settings(clients=3, data="digits")
    assert settings.ids == ["client-000", "client-001", "client-002"]
    assert not folder.path.exists()
    (tmp_path / "empty").mkdir()
    assert open_folder(tmp_path / "empty", **NOTHING)[1] == settings


def test_a_second_call_goes_on_with_what_the_folder_was_made_with(tmp_path):
    wanted = {"clients": 2, "data": "diabetes", "overrides": ["run.seed=3"]}
    folder, settings = open_folder(tmp_path / "f", **wanted)
    keep_settings(folder, settings)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert open_folder(tmp_path / "f", **NOTHING) == (folder, settings)
    assert open_folder(tmp_path / "f", **wanted) == (folder, settings)


@pytest.mark.parametrize(
    "other",
    [{"clients": 5}, {"data": "diabetes"}, {"overrides": ["run.seed=1"]}],
    ids=str,
)
def test_other_settings_want_another_folder(tmp_path, other):
    keep_settings(*open_folder(tmp_path / "f", **NOTHING))
    why = r"was made with --clients 3 --data digits; want the same, or another folder"
    with pytest.raises(ConfigError, match=why):
        open_folder(tmp_path / "f", **(NOTHING | other))


@pytest.mark.parametrize(
    ("text", "option"),
    [("task.clients=5", "--clients N"), (" task.data = digits", "--data SOURCE")],
)
def test_a_key_with_an_option_of_its_own_is_refused(tmp_path, text, option):
    # A server that waits for five clients never starts with three.
    with pytest.raises(ConfigError, match=f"want {option} in its place"):
        open_folder(tmp_path / "f", **NOTHING | {"overrides": [text]})
    assert not (tmp_path / "f").exists()


def test_a_folder_or_file_of_the_user_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    for path in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(ConfigError, match="was not made by fedprune poc; want ano"):
            open_folder(path, **NOTHING)


@pytest.mark.parametrize(
    "change",
    [{"format": "fedprune-poc/9"}, {"clients": 0}, {"clients": True}, {"data": 1}],
    ids=str,
)
def test_settings_of_another_kind_are_refused(tmp_path, change):
    folder, settings = open_folder(tmp_path / "f", **NOTHING)
    keep_settings(folder, settings)
    found = json.loads(folder.settings.read_text())
    folder.settings.write_text(json.dumps(found | change))
    with pytest.raises(IntegrityError, match="not the settings of fedprune poc"):
        open_folder(tmp_path / "f", **NOTHING)
