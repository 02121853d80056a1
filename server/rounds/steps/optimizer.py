"""The server's optimiser: the mean delta of a round is its (negative) gradient.

Source: FedOpt, Reddi et al. 2021, arXiv:2003.00295, Algorithm 2; "momentum" is FedAvgM,
Hsu et al. 2019, arXiv:1909.06335.  A coordinate that no client sent has a mean delta of
0, and counts as 0: its momentum and its variance fade like all others, and its weight
goes on moving by what is left of the momentum.
"""

from dataclasses import replace

import numpy as np

from fedprune.common.config import Server
from fedprune.common.methods.registry import OFF
from fedprune.common.pruning.remap import remap
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import Structure
from fedprune.server.rounds.state import OptimizerState, Snapshot


def server_step(
    rule: Server, state: OptimizerState | None, delta: Vector
) -> tuple[Vector, OptimizerState | None]:
    """Return what is added to the weights, float32[n], and the new state.

    With ``d`` the mean delta, ``b1`` = ``momentum`` and ``b2`` = ``beta2``::

        none      w += d
        momentum  m = b1 m + d                w += lr m
        adam      m = b1 m + (1 - b1) d       w += lr m / (sqrt(v) + tau)
                  v = b2 v + (1 - b2) d**2
        yogi      as adam, with v = v - (1 - b2) d**2 sign(v - d**2)

    The first ``m`` is 0, the first ``v`` is ``tau**2``; nothing is corrected for bias.

    Args:
        rule: The section ``server`` of the configuration.
        state: What the last step left, or None before the first one.
        delta: The aggregated delta, float32[n].
    """
    if rule.optimizer == OFF:
        return delta, None
    before = _fresh(rule, len(delta)) if state is None else state
    beta = rule.momentum
    if before.variance is None:
        momentum = beta * before.momentum + delta
        change = (rule.lr * momentum).astype(np.float32, copy=False)
        return change, replace(before, momentum=momentum)
    momentum = beta * before.momentum + (1.0 - beta) * delta
    square = delta * delta
    if rule.optimizer == "adam":
        variance = rule.beta2 * before.variance + (1.0 - rule.beta2) * square
    else:
        sign = np.sign(before.variance - square)
        variance = before.variance - (1.0 - rule.beta2) * square * sign
    change = (rule.lr * momentum / (np.sqrt(variance) + rule.tau)).astype(np.float32)
    return change, OptimizerState(momentum=momentum, variance=variance)


def cut_optimizer(
    state: OptimizerState | None, structure: Structure, old: Mask, new: Mask
) -> OptimizerState | None:
    """Return the state after a cut, sliced like the weights.

    Args:
        state: State of the network ``old``, or None.
        structure: The original network.
        old: Keep mask before the cut, bool[units].
        new: Keep mask after it, bool[units].
    """
    if state is None:
        return None
    variance = state.variance
    return OptimizerState(
        momentum=remap(state.momentum, structure, old, new),
        variance=None if variance is None else remap(variance, structure, old, new),
    )


def without_optimizer(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot that no rollback needs: without the optimiser's state."""
    if snapshot.optimizer is None:
        return snapshot
    return replace(snapshot, optimizer=None)


def _fresh(rule: Server, size: int) -> OptimizerState:
    zeros = np.zeros(size, dtype=np.float32)
    if rule.optimizer == "momentum":
        return OptimizerState(momentum=zeros)
    least = np.full(size, rule.tau**2, dtype=np.float32)
    return OptimizerState(momentum=zeros, variance=least)
