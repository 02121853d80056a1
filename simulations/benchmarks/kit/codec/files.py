"""A valid packed model file, for the mutants of ``fuzz``."""

import torch
from torch import nn

from fedprune.common.artifacts.packed_file import pack, quantise_network, unpack
from fedprune.common.codec import encode_model
from fedprune.common.description import Description
from fedprune.common.models.flat import get_state, get_weights, model_spec
from fedprune.common.spec import PrunePlan
from fedprune.common.structure.tracing.find import find_structure
from fedprune.simulations.benchmarks.kit.codec.subjects import Subject

_SHAPE = (1, 4, 4)
MOST = 4 << 10  # bytes of the dense network: a reader that has one knows its size


def packed_file() -> Subject:
    """Return the bytes of a small file, for a reader that knows its size."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    ).eval()
    structure = find_structure(model, torch.zeros(2, *_SHAPE))
    content = pack(
        description=Description(),
        name="small",
        input_shape=_SHAPE,
        num_outputs=3,
        structure=structure,
        plan=PrunePlan(structure=structure.digest, keep=structure.full()),
        blob=quantise_network(get_weights(model), model_spec(model, units=0), "grid"),
        statistics=get_state(model, ()),
    )
    return Subject(data=encode_model(content), decode=lambda data: unpack(data, MOST))
