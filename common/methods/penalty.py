"""Penalties, which drive channels or weights to zero in the sparsify rounds.

A proximal penalty returns the factor that a step multiplies each channel or entry by;
the name of its first parameter selects the tensors that are measured and shrunk.  A
gate returns the factor on a channel's output for one step
(``fedprune.common.sparsity.gates``).  The functions use methods of torch tensors, and
torch itself is not imported.
"""

from typing import TYPE_CHECKING

from fedprune.common.methods.kinds import PENALTY
from fedprune.common.methods.registry import method

if TYPE_CHECKING:
    from torch import Tensor

BETA = 2.0 / 3.0  # temperature of the concrete distribution
GAMMA, ZETA = -0.1, 1.1  # the stretched interval; outside of 0..1 it is clamped
_TINY = 1e-30
_EDGE = 1e-6  # of the uniform noise


def soft_threshold(magnitude: "Tensor", threshold: "Tensor | float") -> "Tensor":
    """Return ``max(0, 1 - threshold / magnitude)``, the proximal operator of a norm.

    Source: Yuan & Lin 2006, of the group lasso; the root mean square is the norm over
    the square root of the group's size.
    """
    return (1.0 - threshold / magnitude.clamp(min=_TINY)).clamp(min=0.0)


@method(PENALTY)
def group(channels: "Tensor", threshold: "Tensor") -> "Tensor":
    """Group lasso on whole channels: of the BN-folded norm, or of all weights."""
    return soft_threshold(channels, threshold)


@method(PENALTY)
def bn_l1(scales: "Tensor", threshold: "Tensor") -> "Tensor":
    """L1 on the scales of batch norm, shared by the pruning group.

    Liu et al. 2017, arXiv:1708.06519.
    """
    return soft_threshold(scales, threshold)


@method(PENALTY)
def l1(entries: "Tensor", threshold: float) -> "Tensor":
    """L1 on every entry of matrices and kernels."""
    return soft_threshold(entries, threshold)


@method(PENALTY)
def l0(uniform: "Tensor", log_alpha: "Tensor") -> "Tensor":
    """Hard-concrete gates on channels, trained beside the weights.

    Louizos et al. 2018, arXiv:1712.01312.
    """
    noise = uniform * (1.0 - 2 * _EDGE) + _EDGE
    odds = noise.log() - (-noise).log1p()
    return stretched(((odds + log_alpha) / BETA).sigmoid())


@method(PENALTY)
def targeted_dropout(uniform: "Tensor", strength: float) -> "Tensor":
    """Dropout of the channels that later cuts would remove.

    Each is zero in a step with probability ``strength``: Gomez et al. 2019,
    arXiv:1905.13678.
    """
    return (uniform >= strength).float()


def stretched(share: "Tensor") -> "Tensor":
    """Return a share of the concrete interval, stretched and clamped to 0..1."""
    return (share * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)
