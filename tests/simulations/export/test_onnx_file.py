"""ONNX files of networks with several inputs and outputs, of any form."""

import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from helpers.input_nets import MASK, TOKENS, Two, X, Y
from torch import nn

from fedprune.common.errors import FedPruneError
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import half_mask
from fedprune.common.structure.tracing.find import find_structure
from fedprune.simulations.export.onnx_file import (
    compare_onnx,
    input_names,
    output_names,
    run_onnx,
    write_onnx,
)


class OfDict(Two):
    def forward(self, batch):
        out = super().forward(batch["table"], batch["more"])
        return {"table": out, "extra": [batch["more"] + 1, None]}


class WithRest(Two):
    """An input that is not used, one without a batch, one that is left out."""

    def forward(self, x, spare, scale, nothing=None, y=None):
        assert nothing is None
        found = OrderedDict(out=super().forward(x, y) * scale)
        found["x"] = x
        return found


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.core = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.out = nn.Linear(16, 3)

    def forward(self, ids, pad):
        return self.out(self.core(self.words(ids), src_key_padding_mask=pad).mean(1))


CASES = {
    "two inputs": (Two, (X, Y), ["x", "y"], ["output"]),
    "one example": (Two, (X[:1], Y[:1]), ["x", "y"], ["output"]),
    "a dict": (
        OfDict,
        ({"table": X, "more": Y},),
        ["table", "more"],
        ["table_1", "extra"],
    ),
    "the rest": (
        WithRest,
        {"x": X, "spare": Y, "scale": torch.tensor(2.0), "y": Y},
        ["x", "spare", "scale", "y"],
        ["out", "x_1"],
    ),
    # torch calls a value inside of this network "pad" as well.
    "tokens": (Words, {"pad": MASK == 0, "ids": TOKENS}, ["ids", "pad"], ["output"]),
}


@pytest.mark.parametrize(
    ("make", "example", "inputs", "outputs"), CASES.values(), ids=CASES
)
@pytest.mark.slow
def test_cut_networks_answer_like_torch_for_any_batch(
    tmp_path, make, example, inputs, outputs
):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = make().eval()
    structure = find_structure(model, example)
    cut = apply_plan(copy.deepcopy(model), structure, half_mask(structure, 0))
    path = tmp_path / "a.onnx"
    write_onnx(cut, example, path)
    session = onnxruntime.InferenceSession(path)
    assert [item.name for item in session.get_inputs()] == inputs
    assert [item.name for item in session.get_outputs()] == outputs
    assert session.get_inputs()[0].shape[0] == "batch"
    assert compare_onnx(cut, example, path) <= 1e-5
    assert compare_onnx(make().eval(), example, path) > 1e-3


@pytest.mark.slow
def test_an_embedding_without_some_rows_is_exported_with_its_map(tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model, example = Words().eval(), (TOKENS, MASK == 0)
    structure = find_structure(model, example, vocabulary=["words"])
    assert structure.lookup["words.weight", 0].size == 20
    cut = apply_plan(copy.deepcopy(model), structure, half_mask(structure, 0))
    assert (cut.words.kept[TOKENS] < 0).any()
    path = tmp_path / "a.onnx"
    write_onnx(cut, example, path)
    assert compare_onnx(cut, example, path) <= 1e-5


@pytest.mark.slow
def test_a_file_that_does_not_run_on_its_inputs_is_named(tmp_path):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "a.onnx"
    write_onnx(Two().eval(), (X, Y), path)
    with pytest.raises(FedPruneError, match=r"a\.onnx: onnxruntime cannot run it"):
        run_onnx(path, {"x": X.numpy()})


def test_a_network_without_outputs_is_refused(tmp_path):
    pytest.importorskip("onnxscript")

    class Silent(Two):
        def forward(self, x, y):
            super().forward(x, y)

    with pytest.raises(FedPruneError, match="to ONNX: its outputs hold no tensor"):
        write_onnx(Silent().eval(), (X, Y), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_names_are_those_of_parameters_and_keys():
    model = Two()
    assert input_names(model, (X,)) == ["input"]
    assert input_names(model, (X, [Y, {"a": Y}])) == ["x", "y.0", "y.1.a"]
    assert input_names(model, ({"y": X}, Y)) == ["y", "y_1"]
    assert output_names(X) == ["output"]
    assert output_names((X, [Y])) == ["output", "output_1"]
    assert output_names({"a": X, "b": (Y, Y)}) == ["a", "b", "b_1"]


class Pooled(nn.Module):
    """Words of any number, of which a mask says which count."""

    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, ids, mask):
        weights = mask[..., None].float()
        return self.out((self.table(ids) * weights).sum(1) / weights.sum(1))


class Written(nn.Module):
    """A network whose code writes the length of its texts."""

    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(9, 4), nn.Linear(6, 3)

    def forward(self, ids):
        return self.out(self.table(ids).mean(-1))


def of_length(length, count=2):
    ids = torch.arange(count * length).reshape(count, length) % 9
    return {"ids": ids, "mask": torch.ones(count, length, dtype=torch.bool)}


@pytest.mark.slow
def test_lengths_that_differ_between_examples_are_free_in_the_file(tmp_path):
    model, path = Pooled().eval(), tmp_path / "a.onnx"
    assert write_onnx(model, of_length(6), path, [of_length(4, 1), of_length(6, 1)])
    for length in (1, 3, 6, 11):
        given = of_length(length)
        found = run_onnx(path, {name: x.numpy() for name, x in given.items()})
        np.testing.assert_allclose(found[0], model(**given).detach().numpy(), atol=1e-6)


@pytest.mark.slow
def test_a_length_stays_that_the_code_writes_or_no_example_changes(tmp_path):
    path = tmp_path / "a.onnx"
    ids = [of_length(n)["ids"] for n in (6, 12)]
    assert not write_onnx(Written().eval(), ids[0], path, [ids[1]])
    assert run_onnx(path, {"input": ids[0].numpy()})[0].shape == (2, 3)
    assert not write_onnx(Pooled().eval(), of_length(6), path, [of_length(6, 1)])
