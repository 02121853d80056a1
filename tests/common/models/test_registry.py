import sys

import pytest
import torch
from torch import nn

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError
from fedprune.common.models.flat import get_weights
from fedprune.common.models.registry import NETWORKS, build_model, check_model
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.user_code import load_function

FACTORIES = """
from dataclasses import dataclass
from torch import nn
import neighbour_of_the_factory

@dataclass
class Width:
    value: int = neighbour_of_the_factory.WIDTH

def plain():
    return nn.Linear(Width().value, 2)

def sized(num_outputs):
    return nn.Linear(4, num_outputs)

def shaped(*, num_outputs, input_shape, depth=1):
    return nn.Linear(input_shape[0], num_outputs * depth)

def nothing():
    return "a string"

def fails():
    raise KeyError("deep")

def leaves():
    raise SystemExit(0)

def greedy(width):
    return nn.Linear(width, 1)

not_callable = 3
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "neighbour_of_the_factory.py").write_text("WIDTH = 5\n")
    path = tmp_path / "factories.py"
    path.write_text(FACTORIES)
    yield path
    sys.modules.pop("neighbour_of_the_factory", None)


def build(name, seed=0):
    return build_model(name, num_outputs=3, input_shape=(7,), seed=seed)


@pytest.mark.parametrize("name", NETWORKS)
def test_first_weights_depend_on_the_seed_alone(name):
    def weights(seed):
        shape = (1, 16, 16)
        return get_weights(
            build_model(name, num_outputs=2, input_shape=shape, seed=seed)
        )

    first = weights(1)
    torch.rand(3)
    assert (weights(1) == first).all()
    assert (weights(2) != first).any()


def test_building_leaves_the_global_generator_as_it_was():
    before = torch.get_rng_state()
    build("mlp")
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_name_gets_the_nearest_known_one():
    with pytest.raises(
        ConfigError, match=r"'smal-resnet'; did you mean 'small-resnet'"
    ):
        build("smal-resnet")


@pytest.mark.parametrize(
    ("function", "shape"), [("plain", (2, 5)), ("sized", (3, 4)), ("shaped", (3, 7))]
)
def test_a_factory_in_a_file_gets_the_arguments_it_names(factories, function, shape):
    model = build(f"{factories}:{function}")
    assert model.weight.shape == shape


def test_a_factory_in_a_file_is_seeded_like_any_other(factories):
    name = f"{factories}:plain"
    assert (get_weights(build(name, 1)) == get_weights(build(name, 1))).all()
    assert (get_weights(build(name, 1)) != get_weights(build(name, 2))).any()


def test_the_folder_of_a_file_is_appended_to_the_path_and_never_first(factories):
    before = sys.path.copy()
    build(f"{factories}:plain")
    assert sys.path == [*before, str(factories.parent)]
    build(f"{factories}:sized")
    assert sys.path == [*before, str(factories.parent)]


def test_a_file_cannot_shadow_an_installed_module(factories):
    (factories.parent / "json.py").write_text("raise SystemExit\n")
    (factories.parent / "common.py").write_text("raise SystemExit\n")
    other = factories.parent / "other.py"
    other.write_text(
        "import json, fedprune.common.errors\ndef make():\n    return json.dumps\n"
    )
    assert load_function(f"{other}:make")().__module__ == "json"


def test_a_file_runs_once_and_again_only_when_it_was_edited(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    path = tmp_path / "counted.py"
    path.write_text("runs = []\ndef make():\n    runs.append(1)\n    return runs\n")
    assert load_function(f"{path}:make")() == [1]
    assert load_function(f"{path}:make")() == [1, 1]
    path.write_text(path.read_text() + "# edited\n")
    assert load_function(f"{path}:make")() == [1]


def test_a_factory_of_an_installed_module_is_found():
    assert isinstance(build("torch.nn:ReLU6"), nn.ReLU6)


REFUSED = {
    "the factory returns something else": ("nothing", "returned str; want nn.Module"),
    "the factory fails": ("fails", "KeyError: 'deep'"),
    "the factory ends the program": ("leaves", "failed: SystemExit: 0"),
    "the factory wants another argument": ("greedy", "failed: TypeError.*'width'"),
    "there is no such function": ("plan", "no function named 'plan'; did you.*'plain'"),
    "the name is no function": ("not_callable", "something not callable named"),
}


@pytest.mark.parametrize(("function", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_factory_is_refused(factories, function, message):
    with pytest.raises(ConfigError, match=message):
        build(f"{factories}:{function}")


def test_code_that_fails_while_it_is_loaded_is_named_and_not_kept(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"broken\.py' failed: ZeroDivisionError"):
        load_function(f"{path}:make")
    assert not [name for name in sys.modules if name.startswith("fedprune_user_broken")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.py:make", r"no file 'missing\.py'"),
        ("no_such_module_here:make", "no module 'no_such_module_here'"),
        ("torch.no_such_part:make", "cannot import 'torch.no_such_part'"),
        ("file.py:", "is not 'module:function'"),
        (":make", "is not 'module:function'"),
        ("torch.nn:two words", "is not 'module:function'"),
    ],
)
def test_a_reference_to_nothing_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        build(name)


def test_checking_a_name_runs_no_user_code(tmp_path):
    path = tmp_path / "loud.py"
    path.write_text("raise SystemExit\n")
    assert check_model(f"{path}:make") is None
    assert check_model("small-resnet") is None


def test_no_outputs_are_refused():
    with pytest.raises(ConfigError, match="num_outputs is 0"):
        build_model("mlp", num_outputs=0, input_shape=(7,), seed=0)


def test_a_factory_of_the_caller_that_ends_the_program_is_told_in_one_line():
    def leaves():
        raise SystemExit(0)

    task = LoadedTask(load_config(None), leaves)
    with pytest.raises(ConfigError, match=r"factory of the network called exit\(0\)"):
        task.build_model()


def test_a_network_that_a_file_names_is_built_and_not_run(monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr("fedprune.common.models.registry.check_blocks", never)
    name = "small-resnet[-stages.2.1]"
    build_model(name, num_outputs=3, input_shape=(1, 8, 8), seed=0, fetch=False)
    with pytest.raises(ConfigError, match="no modules of the network"):
        build_model(
            "small-resnet[-nope]",
            num_outputs=3,
            input_shape=(1, 8, 8),
            seed=0,
            fetch=False,
        )
