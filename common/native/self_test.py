"""The self-test of the kernels: known inputs, known outputs, at every load."""

import numpy as np

from fedprune.common.native.library import Kernels, RunModel

_LANES = 8


def check(kernels: Kernels) -> None:
    """Refuse kernels that give other bits than numpy.

    Raises:
        RuntimeError: If an output is not the known one.
    """
