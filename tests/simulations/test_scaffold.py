import json
import re
import shlex
from runpy import run_path

import jsonschema
import numpy as np
import pytest
import torch

from fedprune.common.config import Config, load_config, parse_config
from fedprune.common.config.json_schema import SCHEMA_FILE, config_schema
from fedprune.common.data.sources import load_dataset
from fedprune.common.errors import ConfigError
from fedprune.common.models.registry import build_model
from fedprune.common.parsing import parse_toml
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.scaffold import (
    DEVICES,
    OWN,
    TEMPLATES,
    commented_config,
    write_project,
)

EVERY = {"": OWN, **TEMPLATES}


def with_defaults(text):
    """Return a configuration with its defaults as keys that are set."""
    schema, lines = text.split("\n", 1)
    assert schema == f"#:schema ./{SCHEMA_FILE}"
    return re.sub(r"(?m)^#(?! |$)", "", lines)


@pytest.fixture(autouse=True)
def _no_data_variable(monkeypatch):
    monkeypatch.delenv("FEDPRUNE_DATA", raising=False)


def test_every_commented_line_is_a_default():
    text = with_defaults(commented_config(OWN))
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
    assert parse_config(with_defaults(text)) == config
    assert "my_task.py" not in text


@pytest.mark.parametrize("option", [["--devices"], ["--template", "devices"]])
def test_init_for_devices_writes_no_code_and_says_how_to_go_on(
    option, tmp_path, capsys
):
    assert run_command_line(["init", str(tmp_path), *option]) == 0
    wrote, _, following = capsys.readouterr().out.splitlines()
    assert wrote == f"wrote {tmp_path / 'fedprune.toml'}"
    assert following.startswith("next: fedprune certs certs --host SERVER")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [SCHEMA_FILE, "fedprune.toml"]


@pytest.mark.parametrize("template", EVERY.values(), ids=EVERY)
def test_lines_are_not_wider_than_the_code(template):
    texts = [commented_config(template), *template.files.values()]
    assert max(len(line) for text in texts for line in text.splitlines()) <= 88


@pytest.mark.parametrize("template", EVERY.values(), ids=EVERY)
def test_the_schema_beside_a_project_fits_it(template, tmp_path):
    files = write_project(tmp_path, template)
    assert files[0].name == "fedprune.toml"
    schema = json.loads((tmp_path / SCHEMA_FILE).read_text())
    assert schema == config_schema()
    validator = jsonschema.Draft202012Validator(schema)
    text = files[0].read_text()
    for whole in (text, with_defaults(text)):
        assert [*validator.iter_errors(parse_toml(whole))] == []
    wrong = text.replace("[rounds]", "[rounds]\ncohrt = 3", 1)
    assert not validator.is_valid(parse_toml(wrong))


SHORTER = [
    *("rounds.warmup=1", "rounds.cuts=1", "rounds.sparsify=1", "rounds.finetune=0"),
    *("rounds.final=0", "client.epochs=1", "run.controls=[]", "run.engine=inprocess"),
    *("prune.budget={params=0.8}", "prune.step_cap=0.9"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vision", "text", "tabular"])
def test_a_template_runs_as_it_is_written(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command_line(["init", "new", "--template", name]) == 0
    assert capsys.readouterr().out.endswith(
        "next: fedprune simulate new/fedprune.toml\n"
    )
    overrides = [word for one in SHORTER for word in ("--set", one)]
    call = ["simulate", "new/fedprune.toml", *overrides, "--json"]
    assert run_command_line(call) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["params_final"] < summary["params_dense"]
    assert summary["clients"] == 4
    # Two rounds of a few steps: pictures are hardly learned by then.
    assert summary["accuracy_final"] > (0.1 if name == "vision" else 1 / 3)


@pytest.mark.slow
def test_data_of_templates_are_the_same_each_time():
    for template in TEMPLATES.values():
        assert template.data() == template.data()


@pytest.mark.parametrize(("name", "file"), [("text", "texts"), ("tabular", "table")])
def test_a_file_of_a_spreadsheet_program_is_read(name, file, tmp_path):
    write_project(tmp_path / "new", TEMPLATES[name])
    path = tmp_path / "new" / f"{file}.csv"
    before = run_path(str(tmp_path / "new" / "my_task.py"))["load_data"]()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n")
    after = run_path(str(tmp_path / "new" / "my_task.py"))["load_data"]()
    assert all(map(np.array_equal, before, after))


def test_devices_beside_another_template_are_refused(tmp_path, capsys):
    words = ["init", str(tmp_path), "--template", "vision", "--devices"]
    assert run_command_line(words) == 2
    assert "want one of them" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_an_unknown_template_is_refused_with_those_that_exist(tmp_path, capsys):
    assert run_command_line(["init", str(tmp_path), "--template", "audio"]) == 2
    assert "want one of vision, text, tabular, devices" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_schema_prints_or_writes_one_json_document(tmp_path, capsys):
    assert run_command_line(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == config_schema()
    target = tmp_path / "schema.json"
    assert run_command_line(["schema", "--output", str(target)]) == 0
    assert json.loads(target.read_text()) == config_schema()


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


@pytest.mark.parametrize("name", ["fedprune.toml", "my_task.py", SCHEMA_FILE])
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
        f"wrote {tmp_path / SCHEMA_FILE}",
        f"next: fedprune simulate {tmp_path / 'fedprune.toml'}",
    ]


def test_the_next_step_can_be_pasted_where_a_folder_has_a_space(tmp_path, capsys):
    assert run_command_line(["init", str(tmp_path / "my work")]) == 0
    following = capsys.readouterr().out.splitlines()[-1].removeprefix("next: ")
    place = str(tmp_path / "my work" / "fedprune.toml")
    assert shlex.split(following) == ["fedprune", "simulate", place]
