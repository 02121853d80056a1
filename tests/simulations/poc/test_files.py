"""The files of a proof of concept: complete, usable elsewhere, never overwritten."""

import re

import numpy as np
import pytest

from fedprune.common.config import load_config
from fedprune.common.data.sources import load_dataset
from fedprune.common.errors import ConfigError
from fedprune.server.devices.certs import CertFolder
from fedprune.server.devices.preflight import check_certificates
from fedprune.simulations.poc.files import make_files
from fedprune.simulations.poc.folder import PocFolder, Settings, open_folder


def made(place, **settings):
    folder, found = PocFolder(place), Settings(**settings)
    make_files(folder, found)
    return folder, found


def test_a_server_and_each_device_find_all_that_they_need(tmp_path):
    folder, settings = made(tmp_path / "new", clients=2)
    config = load_config(folder.config)
    assert (config.task.clients, config.rounds.cohort) == (2, 2)
    assert (config.task.outputs, config.task.input_shape) == (10, (1, 8, 8))
    assert config.rounds.total == 12
    assert check_certificates(CertFolder(folder.certs)) == []
    assert list(CertFolder(folder.certs).public_keys()) == settings.ids
    parts = [
        load_dataset(f"npz:{folder.examples(name)}", data_dir="", fold=0)
        for name in settings.ids
    ]
    whole = load_dataset("digits", data_dir="", fold=0)
    assert sum(len(part.train) for part in parts) == len(whole.train)
    dealt = np.concatenate([part.train.targets for part in parts])
    assert sorted(dealt) == sorted(whole.train.targets)


def test_the_configuration_names_no_path_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDPRUNE_DATA", str(tmp_path))
    folder, _ = made(tmp_path / "new")
    assert str(tmp_path) not in folder.config.read_text()


def test_data_that_are_rows_of_values_get_a_network_and_a_loss_that_fit(tmp_path):
    folder, _ = made(tmp_path / "new", data="diabetes", clients=2)
    task = load_config(folder.config).task
    assert (task.model, task.loss, task.outputs) == ("mlp", "mse", 1)


def test_what_the_user_replaces_wins(tmp_path):
    chosen = ("rounds.minimum=1", "task.outputs=12", "prune.budget={params=0.4}")
    folder, _ = made(tmp_path / "new", overrides=chosen)
    config = load_config(folder.config)
    assert (config.rounds.minimum, config.task.outputs) == (1, 12)
    assert config.prune.budget.params == 0.4


def test_the_parts_are_as_skewed_as_the_user_says(tmp_path):
    chosen = ("task.partition={kind='shards', classes=1}",)
    folder, settings = made(tmp_path / "new", clients=10, overrides=chosen)
    for name in settings.ids:
        part = load_dataset(f"npz:{folder.examples(name)}", data_dir="", fold=0)
        targets = np.bincount(part.train.targets)
        assert np.sort(targets)[-1] > 0.8 * targets.sum()


def test_the_instructions_name_every_device_and_what_stays_here(tmp_path):
    folder, settings = made(tmp_path / "new", clients=2)
    text = folder.instructions.read_text()
    for name in settings.ids:
        assert f"certs/clients/{name}\n" in text
        assert f"--id {name} " in text
    assert f"fedprune certs {folder.certs} --host" in text
    for name in re.findall(r"`(\w+)`", text.rpartition("\n\n")[2]):
        assert name in {"server", "devices", "logs", "runs", "data"}


def test_a_second_call_makes_what_is_missing_and_keeps_what_was_changed(tmp_path):
    folder, settings = made(tmp_path / "new", clients=2)
    folder.config.write_text("[task]\nclients = 2\n")
    first, second = (folder.examples(name) for name in settings.ids)
    key = (folder.keys("client-000") / "node.key").read_bytes()
    before = second.read_bytes()
    second.unlink()
    make_files(folder, settings)
    assert folder.config.read_text() == "[task]\nclients = 2\n"
    assert second.read_bytes() == before
    assert first.exists()
    assert (folder.keys("client-000") / "node.key").read_bytes() == key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"data": "digitz"}, "did you mean 'digits'"),
        ({"overrides": ("task.mdel=x",)}, "task.mdel: unknown key"),
        ({"clients": 500}, "gets no data; want fewer clients"),
    ],
    ids=["data", "key", "clients"],
)
def test_what_cannot_be_made_leaves_nothing_behind(tmp_path, settings, why):
    place = tmp_path / "new"
    with pytest.raises(ConfigError, match=why):
        made(place, **settings)
    assert not place.exists()
    open_folder(place, clients=2, data=None, overrides=())
