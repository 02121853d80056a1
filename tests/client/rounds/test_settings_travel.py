"""Training settings come from the server, the data from the client's own file."""

import ast
import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from fedprune.client import rounds
from fedprune.client.device.task import DeviceTask
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import _own_methods, open_plan
from fedprune.client.rounds.round import run_round
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.codec.fields import read_settings, settings_fields
from fedprune.common.config import load_config
from fedprune.common.messages import Phase
from fedprune.common.methods.kinds import CHOICE, IMPORTANCE, PENALTY
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.plan import full_plan
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.state import RunSpec, new_state
from fedprune.server.runs.trying import structure_of

TASK = {"task.model": "mlp", "task.data": "digits", "task.clients": 3}
TASK |= {"task.partition": {"kind": "iid"}, "rounds.cohort": 3, "rounds.minimum": 1}
SERVER = {
    "run.seed": 5,
    "client": {"clip": 0.05, "validation": 0.3, "score_examples": 40, "batch": 16},
    "update.max_bytes": 1 << 20,
}
DEVICE = {
    "run.seed": 11,
    "client": {
        "clip": 0.0, "validation": 0.0, "score_examples": 7, "batch": 3, "epochs": 9,
        "lr": 3.0, "momentum": 0.0, "penalty": "none", "optimizer": "adam",
        "weight_decay": 0.5, "proximal": 2.0, "precision": "bf16",
    },
    "task.freeze": ["1"],
    "update": {"update_density": 1.0, "values": "float32", "max_bytes": 1024,
               "choice": "magnitude"},
    "prune.importance": "fisher",
}  # fmt: skip


def plan_of(config, clients):
    """Return the plan of a scoring round for the second client."""
    task = LoadedTask(config)
    model = task.build_model()
    structure = structure_of(task, model)
    setting = RunSpec(
        run_id="main-1", config=config, structure=structure, clients=clients
    )
    cursor = Cursor(phase=Phase.SPARSIFY, index=2, step=0.5)
    state = new_state(structure, get_weights(model), cursor, full_plan(structure))
    request = plan_round(state, setting).request
    order = request.assignments[1]
    shared = request.variants[order.variant]
    message = codec.address_plan(shared, order.client_id, order.acknowledged)
    return codec.decode_plan(message, 1 << 24)


def test_a_round_of_a_client_reads_of_a_configuration_only_which_code_is_its_own():
    found = [
        f"{path.name}:{node.lineno}"
        for path in sorted(Path(rounds.__file__).parent.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in {"config", "_config"})
        or (isinstance(node, ast.ImportFrom) and "config" in (node.module or ""))
    ]
    # What its own configuration names is its own code, when it abstains, and its noise.
    assert {name.partition(":")[0] for name in found} == {
        *("opened.py", "round.py", "noise.py")
    }
    lines = (Path(rounds.__file__).parent / "round.py").read_text("utf-8").split("\n")
    numbers = [int(name.partition(":")[2]) for name in found if "round.py" in name]
    assert [lines[number - 1].strip() for number in numbers] == [
        "noise = own_noise(opened, cache.task.config)",
        "least = cache.task.config.privacy.min_examples",
    ]
    tree = ast.parse(inspect.getsource(_own_methods))
    reads = {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node).count(".") == 2
    }
    assert reads == {f"own.{kind.key}" for kind in (IMPORTANCE, PENALTY, CHOICE)}


def device(changes):
    return DeviceTask(load_config(None, TASK | changes), client_id="b", share=(1, 3))


def answer(plan, cache, store):
    return run_round(open_plan(plan, cache, store), cache, store)


def test_a_device_whose_own_file_says_other_values_trains_with_the_servers(tmp_path):
    plan = plan_of(load_config(None, TASK | SERVER), ("a", "b", "c"))
    found = []
    for name, changes in (("same", SERVER), ("other", DEVICE)):
        cache = ModelCache(device(changes))
        found.append(answer(plan, cache, ClientStore(tmp_path / name, "b")))
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"clip": 1e-3},
        {"validation": 0.5},
        {"score_examples": 3},
        {"seed": 6},
        {"optimizer": "rmsprop"},
        {"weight_decay": 0.1},
        {"proximal": 1.0},
        {"precision": "bf16"},
        {"frozen": ("1",)},
        {"quantise": "int8"},
        {"quantise": "codebook"},
    ],
)
def test_each_setting_of_the_plan_acts_on_the_device(tmp_path, change):
    plan = plan_of(load_config(None, TASK | SERVER), ("a", "b", "c"))
    cache = ModelCache(device(DEVICE))
    first = answer(plan, cache, ClientStore(tmp_path / "first", "b"))
    other = replace(plan, settings=replace(plan.settings, **change))
    assert answer(other, cache, ClientStore(tmp_path / "other", "b")) != first
    # What was made for one run is not taken for another.
    assert answer(plan, cache, ClientStore(tmp_path / "again", "b")) == first


@pytest.mark.parametrize(("change", "items"), [({}, 21), ({"optimizer": "adam"}, 26)])
def test_a_restart_is_told_only_after_one(change, items):
    settings = plan_of(load_config(None, TASK | SERVER), ("a", "b", "c")).settings
    plain = replace(settings, **change)
    assert len(settings_fields(plain)) == items
    late = replace(plain, since=7)
    assert len(settings_fields(late)) == 27
    assert read_settings(tuple(settings_fields(late))).since == 7
