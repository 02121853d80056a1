"""What the parts of a structure from outside must agree on."""

from itertools import pairwise

import numpy as np
from fedprune.common.structure.inner import misfit
from fedprune.common.structure.json_fields import refuse
from fedprune.common.structure.parts import STATISTICS, Parts


def check_consistent(parts: Parts) -> None:
    """Refuse parts that contradict each other.

    Raises:
        PayloadError: If a running mean and variance are cut differently, the groups
            are no partition of the units, a group is not what its producers make, or
            a block cannot be dropped by the units inside of it.
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
    """Refuse groups that are no partition of the units, or are not what they make."""
    field = "structure.groups"
    members = [group.units for group in parts.groups]
    joined = np.concatenate(members) if members else np.zeros(0, dtype=np.int32)
    if not np.array_equal(np.sort(joined), np.arange(parts.units)):
        raise refuse(field, "the groups are no partition of the units")
    if any(a[0] >= b[0] for a, b in pairwise(members)):
        raise refuse(field, "the groups are not in order of their first unit")
    if len({group.name for group in parts.groups}) != len(parts.groups):
        raise refuse(field, "a name is given twice")
    table = {
        dim.tensor: dim.units
        for dim in parts.dims
        if dim.dim == parts.made_dim(dim.tensor)
    }
    for group in parts.groups:
        made = [table.get(name, np.zeros(0, np.int32)) for name in group.producers]
        missing = [name for name in group.norms if name not in table]
        rows = np.unique(np.concatenate([np.zeros(0, np.int32), *made]))
        if missing or not np.array_equal(rows[rows >= 0], group.units):
            raise refuse(field, f"'{group.name}' is not what its producers make")
