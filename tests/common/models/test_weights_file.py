import io
import json
import os
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from fedprune.common.errors import ConfigError, FedPruneError, IntegrityError
from fedprune.common.models.flat import get_weights
from fedprune.common.models.registry import build_model
from fedprune.common.models.weights_file import load_weights, save_weights

torch.set_num_threads(1)


def network(seed=0):
    return build_model("small-resnet", num_outputs=3, input_shape=(1, 8, 8), seed=seed)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_untouched(model, before):
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def test_what_was_saved_is_loaded_buffers_included(tmp_path):
    model, other = network(0), network(1)
    model.bn.running_mean += 3
    save_weights(tmp_path / "a.safetensors", model, {})
    load_weights(tmp_path / "a.safetensors", other)
    assert_untouched(other, state(model))


def test_equal_networks_make_equal_bytes_whatever_the_order_of_metadata(tmp_path):
    pairs = [(f"key{number}", str(number)) for number in range(9)]
    save_weights(tmp_path / "a", network(), dict(pairs))
    save_weights(tmp_path / "b", network(), dict(reversed(pairs)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_path_may_be_text_and_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_weights(str(tmp_path / "a.safetensors"), network(), {})
    model = network(1)
    load_weights("~/a.safetensors", model)
    assert (get_weights(model) == get_weights(network())).all()


def test_saving_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.safetensors"
    for seed in (0, 1):
        save_weights(path, network(seed), {})
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]
    load_weights(path, model := network(0))
    assert (get_weights(model) == get_weights(network(1))).all()


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path, monkeypatch
):
    path = tmp_path / "a.safetensors"
    save_weights(path, network(), {})
    before = path.read_bytes()

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FedPruneError, match="no space left"):
        save_weights(path, network(1), {})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_tied_weights_and_bfloat16_survive(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).to(torch.bfloat16)
    model[1].weight = model[0].weight
    save_weights(tmp_path / "a", model, {})
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    load_weights(tmp_path / "a", other)
    assert torch.equal(other[1].weight, model[0].weight.float())


def test_the_batch_counters_of_batch_norm_may_be_absent(tmp_path):
    model = network()
    kept = {k: v for k, v in state(model).items() if "num_batches" not in k}
    assert len(kept) < len(state(model))
    save_file(kept, tmp_path / "a.safetensors")
    load_weights(tmp_path / "a.safetensors", other := network(1))
    assert (get_weights(other) == get_weights(model)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_floating_type_is_converted(tmp_path, dtype):
    model = network()
    tensors = {
        k: v.to(dtype) if v.is_floating_point() else v for k, v in state(model).items()
    }
    save_file(tensors, tmp_path / "a.safetensors")
    load_weights(tmp_path / "a.safetensors", other := network(1))
    assert other.fc.weight.dtype == torch.float32
    assert torch.equal(other.fc.weight, model.fc.weight.to(dtype).float())


def test_a_torch_file_is_refused_with_the_lines_that_convert_it(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(network().state_dict(), path)
    with pytest.raises(ConfigError) as caught:
        load_weights(path, network())
    assert "save_file(torch.load('model.pt', weights_only=True)" in str(caught.value)


def test_a_torch_file_is_recognised_whatever_its_name(tmp_path):
    for legacy in (False, True):
        path = tmp_path / "model.safetensors"
        torch.save(
            network().state_dict(), path, _use_new_zipfile_serialization=not legacy
        )
        with pytest.raises(ConfigError, match="pickle"):
            load_weights(path, network())


def test_a_zip_and_every_pickle_suffix_are_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"")
    (tmp_path / "a").write_bytes(buffer.getvalue())
    with pytest.raises(ConfigError, match="pickle"):
        load_weights(tmp_path / "a", network())
    for suffix in (".pt", ".PTH", ".bin", ".pkl"):
        save_weights(path := tmp_path / f"a{suffix}", network(), {})
        with pytest.raises(ConfigError, match="pickle"):
            load_weights(path, network())


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.safetensors", b"\x89PNG\r\n", "a picture"),
        ("a.safetensors", "Größen".encode(), "a text"),
        ("a.ONNX", b"\x08\x0a", "an ONNX model"),
    ],
)
def test_a_file_of_another_kind_is_named_with_what_is_wanted(
    name, data, kind, tmp_path
):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=f"is {kind}; want weights in a safetensors"):
        load_weights(tmp_path / name, network())


def renamed(tensors):
    tensors["fc.weights"] = tensors.pop("fc.weight")


def reshaped(tensors):
    tensors["fc.weight"] = torch.zeros(10, 64)


def not_a_number(tensors):
    tensors["stages.0.0.conv1.weight"][0, 0, 0, 0] = float("nan")


def too_large_for_float32(tensors):
    tensors["fc.bias"] = torch.full((3,), 1e300, dtype=torch.float64)


def integers(tensors):
    tensors["fc.bias"] = torch.zeros(3, dtype=torch.int64)


FORGED = {
    "a renamed tensor": (
        renamed,
        ConfigError,
        r"missing fc\.weight; unknown fc\.weights",
    ),
    "another shape": (
        reshaped,
        ConfigError,
        r"'fc\.weight' has shape \(10, 64\).*\(3, 64",
    ),
    "a NaN": (
        not_a_number,
        IntegrityError,
        r"'stages\.0\.0\.conv1\.weight'.*not finite",
    ),
    "an overflow": (too_large_for_float32, IntegrityError, "'fc.bias'.*not finite"),
    "integers": (integers, ConfigError, r"'fc\.bias' has type torch\.int64"),
}


@pytest.mark.parametrize(("forge", "error", "message"), FORGED.values(), ids=FORGED)
def test_a_file_that_does_not_fit_changes_nothing(tmp_path, forge, error, message):
    tensors = state(network())
    forge(tensors)
    save_file(tensors, tmp_path / "a.safetensors")
    model = network(1)
    before = state(model)
    with pytest.raises(error, match=message):
        load_weights(tmp_path / "a.safetensors", model)
    assert_untouched(model, before)


def test_many_wrong_names_are_counted_not_listed(tmp_path):
    save_weights(tmp_path / "a.safetensors", network(), {})
    with pytest.raises(ConfigError, match=r"and [0-9]+ more"):
        load_weights(tmp_path / "a.safetensors", nn.Linear(2, 2))


@pytest.mark.parametrize("keep", [0, 1, 8, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "a.safetensors"
    save_weights(path, network(), {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IntegrityError, match="no valid safetensors"):
        load_weights(path, network())


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ConfigError, match="there is no weights file"):
            load_weights(path, network())


def test_the_file_is_plain_safetensors_for_everybody_else(tmp_path):
    model = network()
    save_weights(tmp_path / "a.safetensors", model, {"model": "small-resnet"})
    assert load_file(tmp_path / "a.safetensors").keys() == model.state_dict().keys()
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        said = json.loads(file.metadata()["fedprune"])
    assert said == {"model": "small-resnet"}
