"""Weights of channels that are cut together: each has the numbers of its unit."""

import numpy as np
import pytest
import torch
from torch import nn

from fedprune.common.methods.channel_weights import ChannelWeights, Rows
from fedprune.common.pruning.importance import channel_weights, measure_points
from fedprune.common.structure.structure import FIXED
from fedprune.common.structure.tracing.find import find_structure


def grouped():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2),
        nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3),
    )  # fmt: skip


def attention():
    layer = nn.TransformerEncoderLayer(8, 4, 16, batch_first=True, dropout=0.0)
    return nn.Sequential(nn.Linear(6, 8), layer, nn.Flatten(), nn.Linear(40, 3))


NETS = {
    "group norm and grouped convolution": (grouped, torch.randn(2, 3, 8, 8)),
    "attention heads": (attention, torch.randn(2, 5, 6)),
}


@pytest.mark.parametrize(("make", "example"), NETS.values(), ids=NETS)
def test_every_channel_of_a_unit_has_the_mean_of_its_unit(make, example):
    model = make().eval()
    structure = find_structure(model, example)
    keep = structure.full()
    tensors = {n: p.detach().numpy() for n, p in model.named_parameters()}
    several = False
    for point in measure_points(structure):
        found = channel_weights(structure, keep, tensors, point.units)
        means, scales = found.mean(np.abs), found.scale_sum()
        assert means.shape == scales.shape == found.normed.shape == point.units.shape
        for unit in np.unique(point.units):
            mine = point.units == unit
            several |= bool(unit != FIXED and mine.sum() > 1)
            alone = channel_weights(structure, keep, tensors, np.array([unit]))
            np.testing.assert_array_equal(means[mine], alone.mean(np.abs)[0])
            np.testing.assert_array_equal(scales[mine], alone.scale_sum()[0])
            assert (means[mine] > 0.0).all() == (unit != FIXED)
    assert several


def test_criteria_cannot_write_to_the_weights_that_they_share():
    model = grouped()
    structure = find_structure(model, torch.randn(2, 3, 8, 8))
    tensors = {n: p.detach().numpy() for n, p in model.named_parameters()}
    units = structure.groups[0].units
    found = channel_weights(structure, structure.full(), tensors, units)
    with pytest.raises(ValueError, match="read-only"):
        found.producers[0].values[:] = 0.0


@pytest.mark.parametrize(
    "shape", [(3, 70_000), (70_000, 3), (401, 700), (1, 9), (0, 5)]
)
@pytest.mark.parametrize("transposed", [False, True])
def test_blocks_of_rows_add_up_to_the_bits_of_the_whole_tensor(shape, transposed):
    rng = np.random.default_rng(0)
    made = rng.normal(size=shape[::-1] if transposed else shape).astype(np.float32)
    stored = made.T if transposed else made
    rows = Rows(unit=np.arange(len(stored)), stored=stored)
    view = ChannelWeights(
        channels=len(stored), producers=(rows,), norms=(), unit=rows.unit
    )
    blocks = [*rows.blocks()]
    assert len(blocks) > 1 or len(stored) < 4
    np.testing.assert_array_equal(np.concatenate(blocks), rows.values)
    whole = np.square(stored.astype(np.float64)).sum(axis=1) / shape[1]
    assert view.mean(np.square).tobytes() == whole.tobytes()
