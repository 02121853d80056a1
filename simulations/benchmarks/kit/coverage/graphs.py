"""Graphs of a network by torch.fx and by torch.export: does each give one?"""

import copy

import torch
from torch import fx, nn

from fedprune.common.structure.tracing.find import Example
from fedprune.simulations.benchmarks.kit.coverage.trial import arguments, quiet


def has_fx(network: nn.Module) -> bool:
    """Return whether ``torch.fx.symbolic_trace`` gives a graph."""
    try:
        with quiet():
            fx.symbolic_trace(copy.deepcopy(network))
    except Exception:  # whatever foreign code raises on symbolic values
        return False
    return True


def has_export(network: nn.Module, example: Example) -> bool:
    """Return whether ``torch.export`` gives a graph, without or with dynamo."""
    for strict in (False, True):
        try:
            with quiet(), torch.no_grad():
                torch.export.export(
                    copy.deepcopy(network), arguments(example), strict=strict
                )
        except Exception:  # noqa: S112 - the other way is tried
            continue
        return True
    return False
