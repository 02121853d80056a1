"""All code that README.md and docs/ show can be run, loaded or parsed as it stands."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.snippets import (
    PAGES,
    ROOT,
    blocks,
    commands,
    find_command,
    inline,
    our_commands,
)
from torch import nn

import fedprune
from fedprune.common.config import Config, load_config, parse_config
from fedprune.common.config.explain import section_of, wanted
from fedprune.common.methods import registry
from fedprune.common.methods.kinds import KINDS
from fedprune.simulations import cli as commands_line
from fedprune.simulations.cli import app, plain_command, run_command_line
from fedprune.simulations.runs import api

# (page, a line of the block): why it cannot be executed here
NOT_EXECUTED = {
    ("extending.md", "from flwr_datasets.partitioner import DirichletPartitioner"): (
        "flwr-datasets is no dependency: it brings plots along"
    ),
    ("guide.md", "from executorch.exir import to_edge_transform_and_lower"): (
        "executorch is no dependency: its wheel is large"
    ),
    ("guide.md", 'network = openvino.compile_model("exported.xml", "CPU")'): (
        "reads an exported file; test_openvino.py does the same with one"
    ),
    ("guide.md", 'session = onnxruntime.InferenceSession("exported.onnx")'): (
        "reads an exported file; test_usable_alone.py does the same with one"
    ),
}
# What the snippets leave to their defaults, made small.
SMALL = {
    "rounds.minimum": 1,
    "rounds.warmup": 1,
    "rounds.sparsify": 1,
    "rounds.finetune": 0,
    "rounds.cuts": 2,
    "rounds.final": 0,
    "client.epochs": 1,
    "run.controls": [],
    "run.engine": "inprocess",
}
ROOT_COMMAND = plain_command(app)
IDS = {"ids": str}


def make_model():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, 3),
    )  # fmt: skip


def reader_of_the_page():
    """Return what the words around a snippet ask its reader to have."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 1, 4, 4)).astype("float32")
    y = np.arange(160) % 3
    return {
        "make_model": make_model,
        "x_train": x[:120],
        "y_train": y[:120],
        "x_test": x[120:],
        "y_test": y[120:],
    }


def small(read):
    """Return ``load_config`` with small defaults below what the caller sets."""

    def load(path=None, overrides=()):
        if isinstance(overrides, dict):
            return read(path, SMALL | overrides)
        return read(path, [*(f"{k}={v}".lower() for k, v in SMALL.items()), *overrides])

    return load


def reason_not_to(block):
    for (page, line), reason in NOT_EXECUTED.items():
        if page == block.page and line in block.text.splitlines():
            return reason
    return ""


@pytest.fixture
def forgetful(monkeypatch):
    """A registry that forgets the methods of a snippet."""
    for kind in KINDS:
        registry.methods(kind)  # searches the package
    copied = {name: dict(known) for name, known in registry._registered.items()}
    monkeypatch.setattr(registry, "_registered", copied)


PYTHON = blocks("python")
RUNS = [
    pytest.param(block, marks=[pytest.mark.slow] if "simulate(" in block.text else [])
    for block in PYTHON
]


@pytest.mark.parametrize("block", RUNS, **IDS)
def test_every_python_snippet_runs(block, tmp_path, monkeypatch, capsys, forgetful):
    code = compile(block.text, str(block), "exec")
    if reason := reason_not_to(block):
        pytest.skip(reason)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "load_config", small(api.load_config))
    exec(code, reader_of_the_page())  # noqa: S102 - our own pages
    said = capsys.readouterr().out.split()
    assert bool(said) == ("print(" in block.text)
    if "report.html" in block.text:
        assert 0 <= float(said[-2]) <= 1
        assert Path(said[-1]).is_file()


def test_what_is_not_executed_is_still_on_its_page():
    skipped = [block for block in PYTHON if reason_not_to(block)]
    assert len(skipped) == len(NOT_EXECUTED)


def test_there_is_a_python_snippet_on_the_first_page():
    assert [block for block in PYTHON if block.page == "README.md"]


def test_every_block_says_its_language():
    other = [b for b in blocks() if b.language not in ("python", "toml", "sh", "text")]
    assert [str(block) for block in other] == []


@pytest.mark.parametrize("block", blocks("toml"), **IDS)
def test_every_toml_block_is_a_configuration(block):
    assert parse_config(block.text, source=str(block)) != Config()


@pytest.mark.slow
def test_the_tiny_run_needs_no_other_key_and_meets_its_budget(
    tmp_path, monkeypatch, capsys
):
    (block,) = [one for one in blocks("toml") if 'engine = "inprocess"' in one.text]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(block.text, encoding="utf-8")
    run_line("fedprune simulate tiny.toml", capsys)
    (file,) = tmp_path.glob("runs/*/summary.json")
    summary = json.loads(file.read_text(encoding="utf-8"))
    assert summary["accuracy_final"] > 0.9
    assert 0.45 < summary["params_final"] / summary["params_dense"] <= 0.5


@pytest.mark.parametrize("words", our_commands(), ids=" ".join)
def test_every_command_line_parses(words):
    command, rest = find_command(ROOT_COMMAND, words)
    context = command.make_context(command.name, list(rest))
    assert command is not ROOT_COMMAND
    assert context.params
    load_config(None, context.params.get("set_") or [])


@pytest.mark.parametrize(
    "text", [t for t in inline() if re.match(r"(fedprune|…) [-a-z]", t)]
)
def test_every_command_in_the_prose_has_the_options_it_names(text):
    command, _ = find_command(ROOT_COMMAND, text.split()[1:])
    known = {name for param in command.params for name in param.opts}
    if command is ROOT_COMMAND:  # "… --option": of the command in the row above
        below = [ROOT_COMMAND.commands[name] for name in ("simulate", "serve")]
        known = {name for c in below for param in c.params for name in param.opts}
        assert text.startswith("…")
    named = set(re.findall(r"--[a-z][-a-z0-9]*", text))
    assert named <= known | {"--help", "--version"}


KEYS = [
    found
    for text in inline()
    if (found := re.fullmatch(r"([a-z]+(?:\.[a-z_]+)+)(?: = (.+))?", text))
    and found[1].split(".")[0] in Config.model_fields
    and not found[1].endswith((".py", ".toml", ".csv"))
]


@pytest.mark.parametrize("found", KEYS, ids=[found[0] for found in KEYS])
def test_every_key_in_the_prose_exists_and_takes_the_value(found):
    key = tuple(found[1].split("."))
    assert section_of(key) or wanted(key) != "nothing"
    if found[2]:
        load_config(None, [f"{found[1]}={found[2]}"])


def test_keys_are_looked_at():
    assert len(KEYS) > 30


def test_every_other_program_in_the_blocks_is_there():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    for words in commands():
        if words[0] == "make":
            assert words[1] in targets
        elif words[0].endswith("python") and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file()
    assert {"simulate", "test", "e2e"} <= targets


def run_line(line, said):
    assert line.split()[1:] in our_commands(), "the page says something else now"
    code = run_command_line(line.split()[1:])
    assert code == 0, said.readouterr().err


@pytest.mark.slow
def test_the_project_of_the_first_page_runs_as_it_is_written(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands_line, "load_config", small(commands_line.load_config))
    run_line("fedprune init my_project", capsys)
    run_line("fedprune simulate my_project/fedprune.toml", capsys)
    assert list(tmp_path.glob("runs/*/report.html"))


def test_the_certificates_of_the_devices_page_are_made_as_it_is_written(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    line = (
        "fedprune certs certs --host fed.example.org --client edge-01 --client edge-02"
    )
    run_line(line, capsys)
    assert (tmp_path / "certs/clients/edge-02").is_dir()


def test_user_pages_name_public_names_only():
    named = {
        (page.name, found[1])
        for page in PAGES
        if page.name not in ("results.md", "extending.md")
        for found in re.finditer(
            r"(?<!-m )\bfedprune\.([A-Za-z_]\w*)",
            " ".join(page.read_text(encoding="utf-8").split()),
        )
    }
    files = {"toml", "service", "ini", "json", "schema"}
    private = {
        (page, name) for page, name in named if name not in files | {*fedprune.__all__}
    }
    assert private == set()
    assert len(named) > len(files)
