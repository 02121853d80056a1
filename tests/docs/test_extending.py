"""The page on methods of one's own: the registry's facts and a clean sample."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.methods import all_methods
from helpers.snippets import blocks

from fedprune.common import methods as package
from fedprune.common.methods import registry
from fedprune.common.methods.channel_weights import ChannelWeights
from fedprune.common.methods.kinds import IMPORTANCE, KINDS
from fedprune.common.methods.registry import methods

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
NAME = "my_criterion"


def rows(head):
    """Return the cells of the table with this first line, without its head."""
    lines = PAGE.partition(f"{head}\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert lines, head
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def ticked(cell):
    return re.findall(r"`([^`]+)`", cell)


def sample():
    """Return the text of the page's file of a built-in method."""
    (block,) = [one for one in blocks("python") if "@method(" in one.text]
    assert f"`common/methods/{NAME}.py`" in PAGE
    return block.text


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The sample as a new file of the package of methods."""
    for kind in KINDS:
        registry.methods(kind)  # searches the package
    copied = {name: dict(known) for name, known in registry._registered.items()}
    monkeypatch.setattr(registry, "_registered", copied)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    path = tmp_path / f"{NAME}.py"
    path.write_text(sample(), encoding="utf-8")
    yield path
    if sys.modules.pop(f"{package.__name__}.{NAME}", None):
        delattr(package, NAME)


def run(*words):
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sample_is_a_method_where_it_is_written(file):
    found = methods(IMPORTANCE)["largest-weight"]
    assert found.laws == ("scales",)
    assert found.summary.endswith(".")
    assert found.function.__module__ == f"{package.__name__}.{NAME}"


@pytest.mark.parametrize("words", [("check",), ("format", "--check")], ids=" ".join)
def test_the_sample_passes_ruff_as_it_is(file, words):
    run("ruff", *words, "--no-cache", "--config", str(ROOT / "pyproject.toml"), file)


@pytest.mark.long
@pytest.mark.slow
def test_the_sample_passes_mypy_as_it_is(file):
    run("mypy", "--config-file", str(ROOT / "pyproject.toml"), file)


def test_the_table_of_kinds_has_every_kind_and_only_inputs_that_it_has():
    table = rows("| kind | asks for, for example | arrays | returns |")
    assert [row[0] for row in table] == [kind.name for kind in KINDS]
    for kind, row in zip(KINDS, table, strict=True):
        assert {*ticked(row[1])} <= {*kind.inputs}
        torch = any(given.text.startswith("torch") for given in kind.inputs.values())
        assert row[2].startswith("torch") == torch


def test_the_table_of_laws_is_that_of_the_registry():
    table = rows("| kind | law | meaning |")
    always = [kind for kind, law, _ in table if law == "all"]
    assert always == [kind.name for kind in KINDS]
    named = [(kind, ticked(law)[0]) for kind, law, _ in table if law != "all"]
    used = {
        (one.kind.name, law) for one in all_methods(KINDS).values() for law in one.laws
    }
    assert len(named) == len({*named})
    assert {*named} == used


def test_the_table_of_weights_has_every_public_name():
    members = [ticked(row[0])[0] for row in rows("| member | value |")]
    public = {name for name in dir(ChannelWeights) if not name.startswith("_")}
    assert {name.partition("(")[0] for name in members} == public
    for name in members:
        value = getattr(ChannelWeights, name.partition("(")[0])
        method = callable(value)
        assert method == name.endswith(")")
