"""The run configuration of a Flower app: written by the user who starts a run."""

import pytest

from fedprune.common.errors import ConfigError
from fedprune.common.flower import run_config
from fedprune.common.flower.run_config import read_app_config

OWN = '[task]\nmodel = "net.py:make"\n'


@pytest.fixture
def app(tmp_path, monkeypatch):
    """The app's own folder, with a configuration that names code."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "own.toml").write_text(OWN)
    monkeypatch.setattr(run_config, "APP_FOLDER", folder)
    return folder


def test_built_in_names_are_set_by_key(app):
    found = read_app_config({"config": "", "set": "task.model=mlp; task.clients=20"})
    assert (found.task.model, found.task.clients) == ("mlp", 20)


CODE = {
    "a network": "task.model=net.py:make",
    "a network of a library": "task.model=timm:resnet18",
    "a network of the hub": "task.model=hf:foo/bar@random",
    "data": "task.data=module:load",
    "both": "task.model=os:abort; task.data=os:abort",
}


@pytest.mark.parametrize("settings", CODE.values(), ids=CODE)
def test_no_key_is_set_to_code_or_to_what_is_fetched(settings, app):
    with pytest.raises(ConfigError, match="run configuration of a Flower app cannot"):
        read_app_config({"set": settings})


def test_the_apps_own_file_names_code_and_stays_as_it_is(app):
    found = read_app_config({"config": "own.toml", "set": "task.clients=20"})
    assert found.task.model == "net.py:make"
    with pytest.raises(ConfigError, match=r"cannot set task\.model to 'other\.py:f'"):
        read_app_config({"config": "own.toml", "set": "task.model=other.py:f"})


def test_a_file_elsewhere_or_in_a_run_folder_names_no_code(app, tmp_path):
    (tmp_path / "else.toml").write_text(OWN)
    run = app / "runs"
    run.mkdir()
    (run / "config.toml").write_text(OWN)
    (run / "manifest.json").write_text("{}")
    (run / "model/deep").mkdir(parents=True)
    (run / "model/deep/x.toml").write_text(OWN)
    outside = (str(tmp_path / "else.toml"), "../else.toml")
    for path in (*outside, "runs/config.toml", "runs/model/deep/x.toml"):
        with pytest.raises(ConfigError, match=r"cannot set task\.model"):
            read_app_config({"config": path})


def test_a_run_of_another_version_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"one of fedprune 9\.9; this machine has"):
        read_app_config({"version": "9.9"})
