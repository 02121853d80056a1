"""Refusal of structures whose parts contradict each other."""

from itertools import pairwise

import numpy as np

from fedprune.common.structure.json_fields import refuse
from fedprune.common.structure.parts import FIXED, STATISTICS, Parts, misfit


def check_consistent(parts: Parts) -> None:
    """Refuse parts that contradict each other.

    Raises:
        PayloadError: If a running mean and variance are cut differently, the groups
            are not a partition of the units, a dimension has a part of a group, the
            producers of a group do not make it, or a block cannot be dropped by the
            units inside of it.
    """
    _check_moments(parts)
    _check_groups(parts)
    if reason := misfit(parts):
        field = "structure.blocks"
        raise refuse(field, reason)


def _check_moments(parts: Parts) -> None:
    """Refuse a running mean and variance that are cut differently."""
    field = "structure.dims"
    table = {dim.tensor: dim.units for dim in parts.dims}
    for moment in parts.moments:
        mean, variance = (table.get(moment.name + suffix) for suffix in STATISTICS)
        same = mean is variance is None or (
            mean is not None
            and variance is not None
            and bool(np.array_equal(mean, variance))
        )
        if not same:
            detail = f"mean and variance of '{moment.name}' are cut differently"
            raise refuse(field, detail)


def _check_groups(parts: Parts) -> None:
    """Refuse groups that do not partition the units or fit their producers."""
    field = "structure.groups"
    members = [group.units for group in parts.groups]
    joined = np.concatenate(members) if members else np.zeros(0, dtype=np.int32)
    if not np.array_equal(np.sort(joined), np.arange(parts.units)):
        raise refuse(field, "the groups are no partition of the units")
    if any(a[0] >= b[0] for a, b in pairwise(members)):
        raise refuse(field, "the groups are not in order of their first unit")
    if len({group.name for group in parts.groups}) != len(parts.groups):
        raise refuse(field, "a name is given twice")
    _check_widths(parts)
    table = {
        dim.tensor: dim.units
        for dim in parts.dims
        if dim.dim == parts.made_dim(dim.tensor)
    }
    for group in parts.groups:
        names = (*group.producers, *group.norms)
        first = int(group.units[0])
        missing = [x for x in names if x not in table or first not in table[x]]
        if missing or not group.producers:
            raise refuse(field, f"'{group.name}' is not what its producers make")


def _check_widths(parts: Parts) -> None:
    """Refuse a group of which a dimension has some units and lacks others."""
    field = "structure.groups"
    group_of = np.zeros(parts.units, dtype=np.int64)
    for number, group in enumerate(parts.groups):
        group_of[group.units] = number
    sizes = np.asarray([len(group.units) for group in parts.groups], dtype=np.int64)
    for dim in parts.dims:
        inside = group_of[np.unique(dim.units[dim.units != FIXED])]
        numbers, counts = np.unique(inside, return_counts=True)
        partly = numbers[counts != sizes[numbers]]
        if partly.size:
            name = parts.groups[int(partly[0])].name
            detail = f"'{name}' is only partly in dimension {dim.dim} of '{dim.tensor}'"
            raise refuse(field, detail)
