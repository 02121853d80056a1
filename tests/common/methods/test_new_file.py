"""A new idea is one file: found, named, carried by the wire and used, with no edit."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.codec.examples import SETTINGS, make_plan
from helpers.tiny_federation import BASE, Tiny, make_examples

from fedprune.common import codec, methods
from fedprune.common.config import load_config, wanted
from fedprune.common.errors import ConfigError
from fedprune.common.methods import registry
from fedprune.common.methods.kinds import KINDS
from fedprune.common.methods.registry import find, names, wire_name
from fedprune.simulations.inspection.methods import as_text
from fedprune.simulations.runs.api import simulate

HEAD = """
from dataclasses import replace

import numpy as np

CALLS = []


"""
# One new method of each kind; its name says what it does.
IDEAS = {
    "importance": """
def last_channels(products):
    CALLS.append(products.shape)
    return np.arange(1.0, products.shape[1] + 1.0)
""",
    "penalty": """
def quarter(channels, threshold):
    CALLS.append(len(channels))
    return channels * 0.0 + 0.75 ** (threshold > 0.0)
""",
    "consensus": """
def first_client(scores):
    CALLS.append(scores.shape)
    return scores[0][::-1]
""",
    "aggregation": """
def signs(deltas):
    CALLS.append(deltas.shape)
    return 1e-3 * np.sign(deltas.sum(axis=0))
""",
    "schedule": """
def at_the_end(progress, end):
    CALLS.append(progress)
    return end if progress == 1.0 else 1.0 - 0.1 * progress
""",
    "rate schedule": """
def halved(progress, start):
    CALLS.append(progress)
    return start / 2
""",
    "choice": """
def from_the_start(total, count):
    CALLS.append(count)
    return np.arange(len(total)) < count
""",
    "partition": """
def stripes(targets, clients):
    CALLS.append(clients)
    return [np.arange(first, len(targets), clients) for first in range(clients)]
""",
    "mask": """
def first_inputs(matrix):
    CALLS.append(matrix.shape)
    places = np.arange(matrix.shape[1]).reshape(1, -1, *[1] * (matrix.ndim - 2))
    return np.broadcast_to(-1.0 * places, matrix.shape)
""",
    "attack": """
def twice(answer):
    CALLS.append(answer.num_examples)
    return replace(answer, delta=2.0 * answer.delta)
""",
}
FUNCTION = {
    kind: text.partition("def ")[2].partition("(")[0] for kind, text in IDEAS.items()
}
NAME = {kind: function.replace("_", "-") for kind, function in FUNCTION.items()}
KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
# One kind is enough for each commit: a run takes seconds.
ONE_AND_OTHERS = pytest.mark.parametrize(
    "kind",
    [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])],
    ids=lambda kind: kind.name,
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """The settings of a run that takes a second, on data of its own."""
    folder = tmp_path_factory.mktemp("data")
    train, test = make_examples(120), make_examples(30, seed=1)
    arrays = {"x_train": train.inputs, "y_train": train.targets}
    arrays |= {"x_test": test.inputs, "y_test": test.targets}
    np.savez(folder / "data.npz", **arrays)
    return BASE | {
        "task.data": f"npz:{folder / 'data.npz'}",
        "rounds.final": 1,
        "run.controls": [],
        "run.dir": str(folder / "runs"),
    }


@pytest.fixture(scope="module")
def usual(settings):
    """The network of the run with what is registered."""
    return network_of(settings)


def network_of(settings):
    with pytest.MonkeyPatch.context() as patch:  # drawing takes longer than the run
        patch.setattr("fedprune.simulations.runs.run._report", lambda folder: None)
        return simulate(Tiny, config=settings).summary["model_sha256"]


@pytest.fixture
def add(tmp_path, monkeypatch):
    """Put a new file into the package of methods: ``add(kind)`` returns its module."""
    for kind in KINDS:
        registry.methods(kind)
    copied = {kind: dict(known) for kind, known in registry._registered.items()}
    before = set(sys.modules)
    monkeypatch.setattr(registry, "_registered", copied)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])

    def write(kind):
        constant = next(n for n, one in vars(kinds_module()).items() if one is kind)
        name = f"fresh_{constant.lower()}"
        decorated = IDEAS[kind.name].replace("def ", f"@method({constant})\ndef ", 1)
        text = (
            f"from {registry.PACKAGE}.kinds import {constant}\n"
            f"from {registry.PACKAGE}.registry import method\n{HEAD}{decorated}"
        )
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return f"{registry.PACKAGE}.{name}"

    yield write
    for name in set(sys.modules) - before:
        if name.startswith(f"{registry.PACKAGE}.fresh_"):
            del sys.modules[name]
            delattr(methods, name.rpartition(".")[2])


def kinds_module():
    return sys.modules[f"{registry.PACKAGE}.kinds"]


@KIND
def test_before_the_file_there_is_no_such_name(kind):
    with pytest.raises(ConfigError, match="want one of"):
        load_config(None, {kind.key: NAME[kind.name]})


@pytest.mark.slow
@ONE_AND_OTHERS
def test_one_new_file_is_named_listed_carried_and_used(
    kind, add, settings, usual, tmp_path
):
    module = add(kind)
    name = NAME[kind.name]
    # The configuration takes it; its help, its errors and the command list it.
    assert name in names(kind)
    load_config(None, {kind.key: name})
    assert f'"{name}"' in wanted(tuple(kind.key.split(".")))
    with pytest.raises(ConfigError, match=f'did you mean "{name}"'):
        load_config(None, {kind.key: f"{name}s"})
    assert any(line.startswith(f"  {name} ") for line in as_text([kind]))
    # The wire carries it, where clients receive its kind.
    assert wire_name(kind, name) == name
    field = kind.key.rpartition(".")[2]
    if kind.name in {"importance", "penalty", "choice"}:
        plan = replace(make_plan(), settings=replace(SETTINGS, **{field: name}))
        found = codec.decode_plan(codec.encode_plan(plan), 1 << 20)
        assert getattr(found.settings, field) == name
    # A federation uses it, and the same function from a file of one's own alike.
    found = network_of(settings | {kind.key: name})
    assert found != usual
    assert sys.modules[module].CALLS
    mine = tmp_path / "own" / "mine.py"
    mine.parent.mkdir()
    mine.write_text(HEAD + IDEAS[kind.name], encoding="utf-8")
    reference = f"{mine}:{FUNCTION[kind.name]}"
    assert network_of(settings | {kind.key: reference}) == found
    assert find(kind, reference).function.__globals__["CALLS"]


@KIND
def test_after_the_file_is_gone_the_name_is_gone(kind):
    assert NAME[kind.name] not in names(kind)
