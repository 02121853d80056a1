"""Turn a ledger of labels into a structure: number the units, form the groups."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from common.messages import TensorSpec
from common.pruning.labels import Labels, Ledger
from common.pruning.structure import (
    FIXED,
    STATISTICS,
    DimUnits,
    PruningGroup,
    Structure,
)


def assemble(model: nn.Module, ledger: Ledger) -> Structure:
    """Return the structure that the ledger describes.

    Units are numbered in order of their first label, groups in order of their first
    unit; tensors and dims stand in model order.
    """
    tensors = tuple(
        TensorSpec(name=name, shape=tuple(item.shape))
        for name, item in model.named_parameters()
    )
    moments = _moments(model)
    dims, units = _number(ledger, [*_ordered(tensors, moments)])
    names = [tensor.name for tensor in tensors]
    cut = {(dim.tensor, dim.dim) for dim in dims}
    return Structure(
        tensors=tensors,
        moments=moments,
        units=units,
        dims=dims,
        groups=_groups(dims, units, ledger),
        attributes=tuple(
            item for item in ledger.attributes if (item.tensor, item.dim) in cut
        ),
        multiplies={
            name: ledger.multiplies[name] for name in names if name in ledger.multiplies
        },
    )


def _moments(model: nn.Module) -> tuple[TensorSpec, ...]:
    """Return the batch-norm modules that hold running statistics."""
    return tuple(
        TensorSpec(name=name, shape=tuple(module.running_mean.shape))
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    )


def _ordered(
    tensors: tuple[TensorSpec, ...], moments: tuple[TensorSpec, ...]
) -> Iterable[tuple[str, int]]:
    """Yield every (tensor, dim) in model order."""
    for tensor in tensors:
        for dim in range(len(tensor.shape)):
            yield tensor.name, dim
    for moment in moments:
        for suffix in STATISTICS:
            yield moment.name + suffix, 0


def _number(
    ledger: Ledger, keys: list[tuple[str, int]]
) -> tuple[tuple[DimUnits, ...], int]:
    """Return the units along each dimension that has one, and their number."""
    roots: dict[tuple[str, int], Labels] = {}
    for key in keys:
        labels = ledger.dims.get(key)
        if labels is not None:
            roots[key] = ledger.roots(labels)
    fixed = {ledger.find(label) for label in ledger.fixed}
    living = sorted({int(root) for row in roots.values() for root in row} - fixed)
    numbers = {root: unit for unit, root in enumerate(living)}
    found = []
    for (tensor, dim), row in roots.items():
        units = np.asarray(
            [numbers.get(root, FIXED) for root in row.tolist()], np.int32
        )
        if (units != FIXED).any():
            found.append(DimUnits(tensor=tensor, dim=dim, units=units))
    return tuple(found), len(living)


def _groups(
    dims: tuple[DimUnits, ...], units: int, ledger: Ledger
) -> tuple[PruningGroup, ...]:
    """Return the sets of units that share a producer, directly or by others."""
    rows = {dim.tensor: _members(dim) for dim in dims if dim.dim == 0}
    makers = [name for name in rows if name in ledger.producers]
    first = _components([rows[name] for name in makers], units)
    groups = []
    for start in np.unique(first).tolist():
        producers = tuple(name for name in makers if first[rows[name][0]] == start)
        norms = tuple(
            name
            for name, row in rows.items()
            if name in ledger.norms and (first[row] == start).any()
        )
        groups.append(
            PruningGroup(
                name=producers[0].removesuffix(".weight"),
                units=np.flatnonzero(first == start).astype(np.int32),
                producers=producers,
                norms=norms,
            )
        )
    return tuple(groups)


def _members(dim: DimUnits) -> NDArray[np.int32]:
    return np.unique(dim.units[dim.units != FIXED])


def _components(rows: list[NDArray[np.int32]], units: int) -> NDArray[np.int32]:
    """Return the smallest unit that each unit is connected to, int32[units]."""
    first = np.arange(units, dtype=np.int32)
    changed = True
    while changed:
        before = first.copy()
        for row in rows:
            first[row] = first[row].min()
            first = first[first]
        changed = not np.array_equal(before, first)
    return first
