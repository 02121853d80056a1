"""Networks of other libraries, where they are installed; errors where they are not."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from fedprune.common.errors import ConfigError
from fedprune.common.models import zoo
from fedprune.common.models.registry import build_model, check_model
from fedprune.common.models.zoo import check_foreign, load_foreign
from fedprune.common.pruning.verify import check_exact
from fedprune.common.structure.tracing.find import find_structure

VISION = find_spec("timm") is not None and find_spec("torchvision") is not None
HF = find_spec("transformers") is not None
_vision = pytest.mark.skipif(not VISION, reason="timm or torchvision not installed")
_hf = pytest.mark.skipif(not HF, reason="transformers not installed")


def vision(test):
    """Mark a test that imports timm and torchvision, which takes seconds."""
    return pytest.mark.slow(_vision(test))


def hf(test):
    """Mark a test that imports transformers, which takes seconds."""
    return pytest.mark.slow(_hf(test))


# What importing the libraries warns of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def build(name, num_outputs=3, shape=(3, 64, 64)):
    return build_model(name, num_outputs=num_outputs, input_shape=shape, seed=0)


@pytest.mark.parametrize(("name", "extra"), [("timm", "vision"), ("hf", "hf")])
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    name, extra, monkeypatch
):
    monkeypatch.setattr(zoo, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"not installed.*fedprune\[{extra}\]"):
        check_model(f"{name}:resnet18")


def test_a_reference_without_a_name_is_refused():
    with pytest.raises(ConfigError, match="names no network"):
        check_foreign("timm:@random")


@pytest.mark.parametrize("name", ["some/model", "some/model@random"])
def test_for_a_file_no_library_fetches_weights_or_a_configuration(name, monkeypatch):
    asked = []

    def loader(name, num_outputs, shape, weights):
        asked.append((name, weights))
        return torch.nn.Identity()

    monkeypatch.setattr(zoo, "check_foreign", lambda reference: None)
    monkeypatch.setattr(zoo, "LOADERS", {"hf": loader})
    load_foreign(f"hf:{name}", 2, (3, 8, 8), fetch=False)
    assert asked == [("some/model", "local")]


def test_a_hub_is_not_asked_and_remote_code_never_trusted(monkeypatch):
    asked = {}

    class AutoConfig:
        @staticmethod
        def from_pretrained(name, **given):
            asked.update(given)
            msg = "not in the cache"
            raise OSError(msg)

    fake = SimpleNamespace(AutoConfig=AutoConfig)
    monkeypatch.setattr(zoo, "find_spec", lambda name: name == "transformers" or None)
    monkeypatch.setattr(zoo, "import_module", lambda name: fake)
    with pytest.raises(ConfigError, match="in the cache; nothing is downloaded"):
        load_foreign("hf:some/model", 2, (3, 8, 8), fetch=False)
    assert asked["local_files_only"] is True
    assert asked["trust_remote_code"] is False


def test_what_fails_inside_a_library_names_the_way_without_network(monkeypatch):
    def fail(*_):
        msg = "no route to host"
        raise OSError(msg)

    monkeypatch.setattr(zoo, "find_spec", lambda _: object())
    monkeypatch.setattr(zoo, "LOADERS", {"timm": fail})
    with pytest.raises(ConfigError, match=r"no route to host; .*'timm:x@random'"):
        load_foreign("timm:x", 3, (3, 8, 8))
    with pytest.raises(ConfigError, match=r"no route to host$"):
        load_foreign("timm:x@random", 3, (3, 8, 8))


@vision
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_network_with_random_weights_fits_the_task_and_can_be_cut(library):
    model = build(f"{library}:resnet18@random")
    example = torch.randn(1, 3, 64, 64)
    assert model(example).shape == (1, 3)
    structure = find_structure(model, example)
    assert structure.units == 3 * (64 + 128 + 256 + 512)
    assert check_exact(model, structure, example) <= 1e-12


@vision
def test_an_unknown_network_gets_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"'resnet19'; did you mean 'resnet1"):
        build("timm:resnet19@random")
    with pytest.raises(ConfigError, match=r"'resnet19'; did you mean 'resnet"):
        build("torchvision:resnet19@random")


@vision
def test_torchvision_networks_take_colour_images_only():
    with pytest.raises(ConfigError, match="images of 3 channels"):
        build("torchvision:resnet18@random", shape=(1, 64, 64))
    assert build("timm:resnet18@random", shape=(1, 64, 64)).conv1.in_channels == 1


@vision
def test_a_classifier_of_another_number_of_outputs_is_replaced():
    model = build("torchvision:mobilenet_v2@random", num_outputs=7)
    changed = zoo._with_outputs(model, 4)
    assert changed(torch.randn(2, 3, 64, 64)).shape == (2, 4)


@hf
def test_a_network_of_transformers_is_built_from_a_folder_and_can_be_cut(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        architectures=["BertForSequenceClassification"],
    )
    config.save_pretrained(tmp_path)
    model = build(f"hf:{tmp_path}@random").eval()
    example = torch.arange(10).reshape(2, 5)
    assert model(example).shape == (2, 3)
    structure = find_structure(model, example)
    pooler = 16
    assert structure.units == 2 * (4 + 24) + pooler
    assert check_exact(model, structure, example) <= 1e-12
    with pytest.raises(ConfigError, match="@random"):
        build(f"hf:{tmp_path}")
    assert "jax" not in sys.modules
