"""Turn a labelling into a structure: number the units, form the pruning groups."""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedprune.common.spec import TensorSpec
from fedprune.common.structure.labels import Follower, Labelling, Labels
from fedprune.common.structure.parts import FreeLength
from fedprune.common.structure.structure import (
    FIXED,
    STATISTICS,
    Attribute,
    DimUnits,
    PruningGroup,
    Structure,
)

Rows = dict[tuple[str, int], Labels]
_MOST_RUNS = 16  # places where a part of a dimension may start


def assemble(model: nn.Module, labelling: Labelling) -> Structure:
    """Return the structure that the labelling describes.

    Units are numbered in order of their first label, groups in order of their first
    unit; tensors and dims stand in model order.  Labels that no weight makes are not
    cut.
    """
    tensors = tuple(
        TensorSpec(name=name, shape=tuple(item.shape))
        for name, item in model.named_parameters()
    )
    moments = _moments(model)
    others = _others(model, moments)
    rows = _rows(labelling, [*_ordered(tensors, moments, others)])
    made = _makers(labelling, rows)
    rows = _made_only(labelling, rows, made)
    dims, units, numbers = _number(rows)
    cut = {(dim.tensor, dim.dim) for dim in dims}
    makers = {name: dim for name, dim in made.items() if (name, dim) in cut}
    followed = [*labelling.attributes]
    followers = [
        item
        for item in labelling.followers.values()
        if _is_followed(labelling, item, numbers)
    ]
    tallies = [_tally(dim.units) for dim in dims] if followers else []
    for follower in followers:
        found = _attribute(labelling, follower, (dims, tallies), numbers)
        if found is None:
            why = f"'{follower.name}' of module '{follower.module}' follows channels"
            labelling.fix(follower.labels, f"{why} that no tensor counts")
            return assemble(model, labelling)
        if found not in followed:
            followed.append(found)
    names = [tensor.name for tensor in tensors]
    changed = {dim.tensor for dim in dims}
    return Structure(
        tensors=tensors,
        moments=moments,
        units=units,
        dims=dims,
        groups=_groups(dims, makers, labelling, numbers),
        attributes=tuple(item for item in followed if (item.tensor, item.dim) in cut),
        multiplies={
            name: labelling.multiplies[name]
            for name in names
            if name in labelling.multiplies
        },
        buffers=tuple(item for item in others if item.name in changed),
        made={name: dim for name, dim in makers.items() if dim},
        free=_free(labelling, numbers),
    )


def _free(labelling: Labelling, numbers: Mapping[int, int]) -> tuple[FreeLength, ...]:
    """Return the lengths that have to be left to torch, as a unit changes them."""
    return tuple(
        FreeLength(module=module, rank=rank, index=freed.index)
        for (module, rank), freed in sorted(labelling.freed.items())
        if any(root in numbers for row in freed.labels for root in labelling.roots(row))
    )


def _moments(model: nn.Module) -> tuple[TensorSpec, ...]:
    """Return the batch-norm modules that have running statistics."""
    return tuple(
        TensorSpec(name=name, shape=tuple(module.running_mean.shape))
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    )


def _others(
    model: nn.Module, moments: tuple[TensorSpec, ...]
) -> tuple[TensorSpec, ...]:
    """Return the buffers other than batch-norm statistics."""
    known = {moment.name + suffix for moment in moments for suffix in STATISTICS}
    return tuple(
        TensorSpec(name=name, shape=tuple(item.shape))
        for name, item in model.named_buffers()
        if name not in known
    )


def _ordered(
    tensors: tuple[TensorSpec, ...],
    moments: tuple[TensorSpec, ...],
    others: tuple[TensorSpec, ...],
) -> Iterable[tuple[str, int]]:
    """Yield every (tensor, dim) in model order."""
    for tensor in tensors:
        for dim in range(len(tensor.shape)):
            yield tensor.name, dim
    for moment in moments:
        for suffix in STATISTICS:
            yield moment.name + suffix, 0
    for buffer in others:
        for dim in range(len(buffer.shape)):
            yield buffer.name, dim


def _rows(labelling: Labelling, keys: list[tuple[str, int]]) -> Rows:
    """Return the roots along each dimension, -1 where it is never cut."""
    found = {}
    for key in keys:
        labels = labelling.dims.get(key)
        if labels is not None:
            row = labelling.roots(labels)
            if (row != FIXED).any():
                found[key] = row
    return found


def _makers(labelling: Labelling, rows: Rows) -> dict[str, int]:
    """Return the producers, each with the first dimension in which it is cut."""
    found: dict[str, int] = {}
    for name, dim in sorted(labelling.producers, key=lambda item: item[1]):
        if (name, dim) in rows:
            found.setdefault(name, dim)
    return found


def _made_only(labelling: Labelling, rows: Rows, makers: Mapping[str, int]) -> Rows:
    """Return the rows without roots that no producer makes: those are not cut."""
    made = _table(rows, makers.items())
    found = {}
    for key, row in rows.items():
        kept = np.where(made[row], row, FIXED)
        if not np.array_equal(kept, row) and key[0] not in makers:
            labelling.notes[f"'{key[0]}': no weight makes its dimension {key[1]}"] = (
                None
            )
        if (kept != FIXED).any():
            found[key] = kept
    return found


def _table(rows: Rows, keys: Iterable[tuple[str, int]]) -> NDArray[np.bool_]:
    """Return whether each root is in a row; FIXED reads the last entry, which is no."""
    most = max((int(row.max(initial=FIXED)) for row in rows.values()), default=FIXED)
    found = np.zeros(most + 2, dtype=np.bool_)
    for key in keys:
        found[rows[key]] = True
    found[-1] = False
    return found


def _number(rows: Rows) -> tuple[tuple[DimUnits, ...], int, dict[int, int]]:
    """Return the units along each dimension, their number, and their roots."""
    table = _table(rows, rows)
    living = np.flatnonzero(table)
    places = np.append(np.cumsum(table[:-1]) - 1, FIXED)  # FIXED reads the last one
    found = tuple(
        DimUnits(
            tensor=tensor,
            dim=dim,
            units=places[row].astype(np.int32),
        )
        for (tensor, dim), row in rows.items()
    )
    numbers = {root: unit for unit, root in enumerate(living.tolist())}
    return found, len(living), numbers


def _attribute(
    labelling: Labelling,
    follower: Follower,
    tallied: tuple[tuple[DimUnits, ...], list[dict[int, int]]],
    numbers: Mapping[int, int],
) -> Attribute | None:
    """Return a dimension, or a part of one, that changes as a module attribute does."""
    units = _units(labelling, follower.labels, numbers)
    wanted = {k: n * follower.ratio for k, n in _tally(units).items()}
    length = len(units) * follower.ratio
    for part in (False, True):
        for dim, tally in zip(*tallied, strict=True):
            for start, stop in _runs(dim.units, units, length) if part else [(0, None)]:
                found = _tally(dim.units[start:stop]) if part else tally
                share = _share(found, wanted)
                if share:
                    return Attribute(
                        module=follower.module,
                        name=follower.name,
                        tensor=dim.tensor,
                        dim=dim.dim,
                        divisor=share,
                        start=start,
                        stop=stop,
                    )
    return None


def _share(found: Mapping[int, int], wanted: Mapping[int, Fraction]) -> int:
    """Return how many positions count as one, or 0 where the units are others."""
    if found.keys() != wanted.keys():
        return 0
    shares = {Fraction(found[unit]) / wanted[unit] for unit in found}
    share = shares.pop()
    return int(share) if not shares and share.denominator == 1 else 0


def _runs(
    units: NDArray[np.int32], wanted: NDArray[np.integer], length: Fraction
) -> Iterator[tuple[int, int]]:
    """Yield the parts of a dimension that may have the wanted units."""
    living = np.flatnonzero(wanted != FIXED)
    if not living.size or length.denominator != 1:
        return
    lead = int(living[0])
    for place in np.flatnonzero(units == wanted[lead]).tolist()[:_MOST_RUNS]:
        same = units[place:] == units[place]
        repeat = len(same) if same.all() else int(same.argmin())
        for share in sorted({1, repeat}):
            start = place - lead * share
            stop = start + int(length) * share
            if start >= 0 and stop <= len(units) and stop - start < len(units):
                yield start, stop


def _is_followed(
    labelling: Labelling, follower: Follower, numbers: Mapping[int, int]
) -> bool:
    """Return whether a cut changes what a module attribute follows."""
    return bool((_units(labelling, follower.labels, numbers) != FIXED).any())


def _units(
    labelling: Labelling, labels: Labels, numbers: Mapping[int, int]
) -> NDArray[np.int32]:
    """Return the unit of each label, -1 = never cut."""
    roots = labelling.roots(labels).tolist()
    return np.asarray([numbers.get(root, FIXED) for root in roots], dtype=np.int32)


def _tally(units: NDArray[np.integer]) -> dict[int, int]:
    found, counts = np.unique(units, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _groups(
    dims: tuple[DimUnits, ...],
    makers: Mapping[str, int],
    labelling: Labelling,
    numbers: Mapping[int, int],
) -> tuple[PruningGroup, ...]:
    """Return the sets of units that lie in the same dimensions of the same tensors.

    A part that code splits off counts as a dimension: it must not become empty.
    """
    rows = [dim.units for dim in dims]
    rows += [_units(labelling, part, numbers) for part in labelling.parts]
    # Most dimensions have the units of another one, and those place no unit anew.
    distinct = {row.tobytes(): row for row in rows}
    members = {key: _members(row) for key, row in distinct.items()}
    made = {
        d.tensor: members[d.units.tobytes()]
        for d in dims
        if makers.get(d.tensor) == d.dim
    }
    scaled = {
        d.tensor: members[d.units.tobytes()]
        for d in dims
        if d.dim == 0 and d.tensor in labelling.norms
    }
    group_of = _same_places([*members.values()], len(numbers))
    producers = _by_group(made, group_of)
    norms = _by_group(scaled, group_of)
    names: dict[str, int] = {}
    groups = []
    for number in range(int(group_of.max(initial=-1)) + 1):
        name = producers[number][0].removesuffix(".weight")
        names[name] = names.get(name, 0) + 1
        groups.append(
            PruningGroup(
                name=name if names[name] == 1 else f"{name}#{names[name]}",
                units=np.flatnonzero(group_of == number).astype(np.int32),
                producers=tuple(producers[number]),
                norms=tuple(norms.get(number, ())),
            )
        )
    return tuple(groups)


def _by_group(
    members: Mapping[str, NDArray[np.integer]], group_of: NDArray[np.int64]
) -> dict[int, list[str]]:
    """Return the tensors that have units of each group, in their order."""
    found: dict[int, list[str]] = {}
    for name, units in members.items():
        for number in np.unique(group_of[units]).tolist():
            found.setdefault(number, []).append(name)
    return found


def _members(units: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.unique(units[units != FIXED])


def _same_places(rows: list[NDArray[np.integer]], units: int) -> NDArray[np.int64]:
    """Return the group of each unit, int64[units], in order of their first unit.

    Two units are in one group if every row has both of them or neither, so a row
    consists of whole groups: none is left empty while each keeps a unit.

    Args:
        rows: The units of each dimension.
        units: Number of units.
    """
    found = np.zeros(units, dtype=np.int64)
    sizes = [units]
    for members in rows:
        numbers, of, counts = np.unique(
            found[members], return_inverse=True, return_counts=True
        )
        for place, (number, count) in enumerate(zip(numbers, counts, strict=True)):
            if count < sizes[number]:
                sizes[number] -= int(count)
                found[members[of == place]] = len(sizes)
                sizes.append(int(count))
    first: dict[int, int] = {}
    order = [first.setdefault(one, len(first)) for one in found.tolist()]
    return np.asarray(order, dtype=np.int64)
