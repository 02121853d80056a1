"""The self-test of the kernels: known inputs, known outputs, at every load."""

from fedprune.common.native.library import Kernels

_LANES = 8


def check(kernels: Kernels) -> None:
    """Refuse kernels that give other bits than numpy.

    Raises:
        RuntimeError: If an output is not the known one.
    """
