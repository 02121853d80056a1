"""``.fpz``: the network of a run, quantised and packed, comes back exactly."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.codec.examples import body_of, seal_again
from helpers.finished_run import a_run, answer, dense
from torch import nn

import fedprune
from fedprune.common import codec
from fedprune.common.artifacts.load import load_model
from fedprune.common.artifacts.packed_file import (
    quantise_network,
    read_packed,
    unpack,
    write_packed,
)
from fedprune.common.errors import ConfigError, IntegrityError, PayloadError
from fedprune.common.models.flat import get_statistics, get_weights
from fedprune.common.pruning.plan import full_plan
from fedprune.simulations.export.export import export_run
from fedprune.simulations.inspection.artifacts import inspect_path, render

KINDS = ["grid", "float32", "codebook1", "codebook4", "codebook6"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def no_test_data(monkeypatch):
    """Accuracies have a test of their own; these networks were trained on nothing."""
    monkeypatch.setattr(
        "fedprune.simulations.export.export.accuracies", lambda *_, **__: {}
    )


@pytest.mark.parametrize("values", KINDS)
def test_the_network_that_is_loaded_has_the_quantised_weights_bit_for_bit(
    run, values, tmp_path
):
    folder, model = run
    target = tmp_path / "model.fpz"
    found = export_run(folder.path, format_="fpz", values=values, output=target)
    packed = read_packed(target)
    blob = quantise_network(get_weights(model), packed.spec, values)
    wanted = codec.decode_weights(blob, packed.spec)
    again = fedprune.load_model(target)
    assert get_weights(again).tobytes() == wanted.tobytes()
    for one, other in zip(get_statistics(again), get_statistics(model), strict=True):
        assert one.tobytes() == other.tobytes()
    assert not again.training
    assert found["bytes"] == target.stat().st_size
    assert found["values"] == values
    assert found["max_change"] == float(np.abs(wanted - get_weights(model)).max())
    if values == "float32":
        assert answer(again).tobytes() == answer(model).tobytes()


@pytest.mark.slow
def test_a_packed_network_is_a_fraction_of_its_floats(run, tmp_path):
    folder, model = run
    sizes = {}
    for values in KINDS:
        path = tmp_path / f"{values}.fpz"
        export_run(folder.path, format_="fpz", values=values, output=path)
        sizes[values] = path.stat().st_size
    floats = 4 * len(get_weights(model))
    assert sizes["float32"] < 1.1 * floats
    assert sizes["grid"] < 0.3 * floats
    assert sizes["codebook1"] < sizes["codebook4"] < sizes["codebook6"] < 0.25 * floats


def test_a_network_on_its_grid_loses_nothing(run, tmp_path):
    folder, model = run
    one, two = tmp_path / "one.fpz", tmp_path / "two.fpz"
    export_run(folder.path, format_="fpz", output=one)
    packed = read_packed(one)
    blob = quantise_network(packed.weights, packed.spec, "grid")
    network = replace(packed.model.network, weights=blob)
    write_packed(two, replace(packed.model, network=network))
    assert read_packed(two).weights.tobytes() == packed.weights.tobytes()
    assert packed.weights.tobytes() != get_weights(model).tobytes()


def test_an_export_says_how_accurate_the_quantised_network_is(tmp_path, monkeypatch):
    monkeypatch.undo()
    folder, _ = a_run(tmp_path)
    folder.config.write_text('[task]\nmodel = "small-resnet"\ndata = "digits"\n')
    found = export_run(folder.path, format_="fpz", values="codebook1")
    assert Path(str(found["path"])).name == "exported.fpz"
    for key in ("accuracy_float32", "accuracy_fpz"):
        assert 0.0 <= float(str(found[key])) <= 1.0


@pytest.mark.parametrize("values", ["codebook", "codebook0", "codebook7", "int8"])
def test_an_unknown_quantiser_is_refused(run, values, tmp_path):
    folder, _ = run
    with pytest.raises(ConfigError, match='want "grid", "float32"'):
        export_run(folder.path, format_="fpz", values=values, output=tmp_path / "x.fpz")


def test_a_name_of_another_ending_is_refused(run, tmp_path):
    folder, _ = run
    with pytest.raises(ConfigError, match=r"ends in \.fpz"):
        export_run(folder.path, format_="fpz", output=tmp_path / "x.bin")


class Buffered(nn.Module):
    """A network with numbers that are neither weights nor moments."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("table", torch.ones(3))

    def forward(self, x):
        return self.inner(x)


def test_a_network_with_other_numbers_is_refused_by_name(tmp_path):
    from fedprune.simulations.export.packing import _check_rest

    one, two = Buffered(dense("mlp")), Buffered(dense("mlp"))
    _check_rest(one, two)
    two.table += 1
    with pytest.raises(ConfigError, match="buffer 'table'"):
        _check_rest(one, two)


@pytest.fixture(scope="module")
def data(run, tmp_path_factory):
    folder, _ = run
    path = tmp_path_factory.mktemp("packed") / "model.fpz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "fedprune.simulations.export.export.accuracies", lambda *_, **__: {}
        )
        export_run(folder.path, format_="fpz", output=path)
    return path.read_bytes()


def edited(data, **changes):
    model = codec.decode_model(data)
    network = {
        key: changes.pop(key) for key in list(changes) if hasattr(model.network, key)
    }
    return codec.encode_model(
        replace(model, network=replace(model.network, **network), **changes)
    )


def attacks(data):
    """Return name -> forged file, each with right digests of the frame."""
    packed = unpack(data)
    network = packed.model.network
    moments = network.statistics
    other = codec.encode_weights(packed.weights + 1, packed.spec, "float32")
    bare = replace(moments, mean=moments.mean[1:], variance=moments.variance[1:])
    plan = replace(network.plan, structure=b"x" * 16)
    short = replace(network.plan, keep=network.plan.keep[:-1])
    none = replace(network.plan, keep=np.zeros_like(network.plan.keep))
    return {
        "no bytes": b"",
        "cut off": data[:-9],
        "a byte more": data + b"\0",
        "another kind": codec.encode_broadcast(network),
        "a structure of no JSON": edited(data, structure_json=b"{"),
        "another structure": edited(data, structure_json=b"{}"),
        "a plan of another structure": edited(data, plan=plan),
        "a plan of fewer units": edited(data, plan=short),
        "a plan that keeps nothing": edited(data, plan=none),
        "a plan that keeps all": edited(data, plan=full_plan(packed.structure)),
        "other weights": edited(data, weights=other),
        "weights of no kind": edited(data, weights=b"x"),
        "a change": edited(data, weights=body_of(network.weights)),
        "no moments": edited(data, statistics=None),
        "a moment less": edited(data, statistics=bare),
        "a shape of 0": edited(data, input_shape=(0, 8, 8)),
        "a shape of nine sizes": edited(data, input_shape=(1,) * 9),
        "outputs below 0": edited(data, num_outputs=-1),
        "no name": edited(data, name=""),
        "a name of two lines": edited(data, name="a\nb"),
    }


def test_forged_files_are_refused_by_name(data, tmp_path):
    path = tmp_path / "forged.fpz"
    for name, forged in attacks(data).items():
        path.write_bytes(forged)
        with pytest.raises(
            IntegrityError, match=r"forged\.fpz: (field '|the file is empty)"
        ):
            read_packed(path)
        with pytest.raises(IntegrityError, match=r"forged\.fpz"):
            inspect_path(path)
        assert name


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(IntegrityError, match=r"none\.fpz: cannot be read"):
        load_model(tmp_path / "none.fpz")


def test_an_architecture_that_makes_another_network_is_noticed(data, tmp_path):
    path = tmp_path / "other.fpz"
    path.write_bytes(data)
    with pytest.raises((ConfigError, IntegrityError)):
        load_model(path, factory=lambda: dense("lenet5"))


@pytest.mark.slow
def test_changed_bytes_with_right_digests_are_refused_or_read_whole(data):
    body = body_of(data)
    rng = np.random.default_rng(0)
    read = 0
    for _ in range(300):
        forged = bytearray(body)
        forged[rng.integers(len(body))] ^= 1 << rng.integers(8)
        try:
            found = unpack(seal_again(bytes(forged)))
        except PayloadError:
            continue
        read += 1
        assert np.all(np.isfinite(found.weights))
    assert read < 60  # names, parents and moments may change


@pytest.mark.slow
def test_inspect_shows_fields_and_bytes_by_part(run, tmp_path):
    folder, model = run
    for values in KINDS:
        path = tmp_path / f"{values}.fpz"
        export_run(folder.path, format_="fpz", values=values, output=path)
        info = inspect_path(path)
        assert info["kind"] == "packed"
        assert info["fields"]["values"] == values
        assert info["fields"]["weights"] == len(get_weights(model))
        assert sum(info["parts"].values()) == info["bytes"] == path.stat().st_size
        assert sum(info["weights"].values()) == info["parts"]["weights"]
        assert min(info["parts"].values()) >= 0
        assert min(info["weights"].values()) >= 0
        assert json.dumps(info)
        text = render(info)
        assert "small-resnet" in text
        assert f"bytes         {info['bytes']}" in text
