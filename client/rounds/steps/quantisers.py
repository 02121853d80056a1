"""Parts that a network is trained with for the quantisation of its file."""

from contextlib import AbstractContextManager
from typing import Protocol

from torch import nn

from fedprune.client.rounds.steps.int8 import Int8
from fedprune.client.rounds.steps.shared_values import SharedValues
from fedprune.common.sparsity.shared import CODEBOOK

INT8 = "int8"


class Quantiser(Protocol):
    """Changes what a network computes, or how it is trained, for one local training."""

    def attached(self, model: nn.Module) -> AbstractContextManager[None]:
        """Act on the network while the block runs."""

    def run(self, model: nn.Module, inputs: object) -> object:
        """Return the network's outputs as it is trained."""


def quantiser_of(model: nn.Module, kind: str) -> Quantiser | None:
    """Return the quantiser of a kind, one of ``TrainSettings.quantise``."""
    if kind == INT8:
        return Int8(model)
    return SharedValues(model) if kind == CODEBOOK else None
