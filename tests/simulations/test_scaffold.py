import re

import numpy as np
import pytest
import torch

from fedprune.common.config import Config, load_config, parse_config
from fedprune.common.data.sources import load_dataset
from fedprune.common.errors import ConfigError
from fedprune.common.models.registry import build_model
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.scaffold import (
    DEVICES,
    OWN,
    commented_config,
    write_project,
)


@pytest.fixture(autouse=True)
def _no_data_variable(monkeypatch):
    monkeypatch.delenv("FEDPRUNE_DATA", raising=False)


def test_every_commented_line_is_a_default():
    text = re.sub(r"(?m)^#(?! )", "", commented_config())
    config = parse_config(text)
    own = {"model": "my_task.py:make_model", "data": "my_task.py:load_data"}
    assert config == Config(task=Config().task.model_copy(update=own))
    for section, keys in Config().model_dump().items():
        assert f"\n[{section}]  # " in text
        for key, default in keys.items():
            mark = "# " if default is None else ""
            assert re.search(rf"\n{mark}{key}(\.\w+)? = ", text)


def test_the_configuration_of_devices_needs_no_data_at_the_server():
    text = commented_config(DEVICES)
    config = parse_config(text)
    assert (config.task.clients, config.rounds.cohort) == (3, 3)
    dataset = load_dataset(config.task.data, data_dir="", fold=0)
    assert config.task.outputs == dataset.num_outputs
    assert config.task.input_shape == dataset.input_shape
    assert parse_config(re.sub(r"(?m)^#(?! )", "", text)) == config
    assert "my_task.py" not in text


def test_init_for_devices_writes_one_file_and_says_how_to_go_on(tmp_path, capsys):
    assert run_command_line(["init", str(tmp_path), "--devices"]) == 0
    wrote, following = capsys.readouterr().out.splitlines()
    assert wrote == f"wrote {tmp_path / 'fedprune.toml'}"
    assert following.startswith("next: fedprune certs certs --host SERVER")
    assert [path.name for path in tmp_path.iterdir()] == ["fedprune.toml"]


@pytest.mark.parametrize("template", [OWN, DEVICES])
def test_lines_are_not_wider_than_the_code(template):
    assert max(map(len, commented_config(template).splitlines())) <= 88


def test_the_task_can_be_learned(tmp_path):
    config = load_config(write_project(tmp_path / "new")[0])
    dataset = load_dataset(config.task.data, data_dir="", fold=0)
    model = build_model(
        config.task.model,
        num_outputs=dataset.num_outputs,
        input_shape=dataset.input_shape,
        seed=0,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    inputs, targets = dataset.train.batch(np.arange(len(dataset.train)))
    for start in range(0, len(targets), 50):
        optimizer.zero_grad()
        outputs = model(inputs[start : start + 50])
        targets_ = targets[start : start + 50]
        torch.nn.functional.cross_entropy(outputs, targets_).backward()
        optimizer.step()
    inputs, targets = dataset.test.batch(np.arange(len(dataset.test)))
    with torch.no_grad():
        accuracy = (model.eval()(inputs).argmax(1) == targets).float().mean()
    assert 0.6 < accuracy < 1  # four classes: 0.25 by chance


@pytest.mark.parametrize("name", ["fedprune.toml", "my_task.py"])
def test_nothing_is_overwritten(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=rf"{name} exists and is not overwritten"):
        write_project(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_file_in_the_way_is_an_error_of_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run_command_line(["init", str(tmp_path / "file")]) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_init_names_the_files_and_the_next_step(tmp_path, capsys):
    assert run_command_line(["init", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {tmp_path / 'fedprune.toml'}",
        f"wrote {tmp_path / 'my_task.py'}",
        f"next: fedprune simulate {tmp_path / 'fedprune.toml'}",
    ]
