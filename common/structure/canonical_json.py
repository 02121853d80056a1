"""The canonical JSON of a structure, and its strict reader.

One object, sorted keys, no white space, ASCII.  Tensors are named once and numbered:
number ``i < len(tensors)`` is a trained tensor; the running mean and variance of moment
``j`` follow as ``len(tensors) + 2 j`` and ``+ 1``::

    version     1; 2 where buffers, made or an attribute beyond version 1 are; 3 where
                blocks are; 4 where an attribute is in a list, or follows a part, or
                where free is; 5 where running is
    units       number of units
    tensors     [[name, [shape]], ...]
    moments     [[module, channels], ...]
    dims        [[tensor, dim, runs], ...]           rising by (tensor, dim)
    groups      [[name, runs, [producer], [norm]], ...]
    attributes  [[module, name, number in dims, divisor], ...]; start and stop follow
                where only a part of the dimension counts
    multiplies  [[tensor, positions], ...]           rising by tensor
    buffers     [[name, [shape]], ...]               only where there are any
    made        [[tensor, dim], ...]                 rising; only where there are any
    blocks      [module, ...]                        only where there are any
    free        [[module, rank, index], ...]         rising; only where there are any
    running     [number in buffers, ...]             rising; only where there are any

The buffers are numbered after the statistics.
The runs of a unit list are explained in ``fedprune.common.structure.json_fields``.
"""

import json
import re
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import Reason
from fedprune.common.spec import MAX_STRUCTURE, MAX_UNITS, MAX_WEIGHTS, TensorSpec
from fedprune.common.structure.announced import Announced, Check
from fedprune.common.structure.consistent import check_consistent
from fedprune.common.structure.json_fields import (
    MAX_PATH,
    load_object,
    read_int,
    read_keys,
    read_list,
    read_name,
    read_positions,
    read_runs,
    refuse,
    to_runs,
)
from fedprune.common.structure.parts import (
    MAX_RANK,
    STATISTICS,
    Attribute,
    DimUnits,
    FreeLength,
    Parts,
    PruningGroup,
)

VERSION = 5
KEYS = frozenset(
    {"attributes", "dims", "groups", "moments", "multiplies"}
    | {"tensors", "units", "version"}
)
LATER_KEYS = frozenset({"buffers", "made", "blocks", "free", "running"})
# What version 1 could follow.  Version 2 follows any public attribute that is an
# integer: ``apply_plan`` writes to none that does not hold exactly the dense value.
ATTRIBUTE_NAMES = frozenset(
    {"in_channels", "out_channels", "groups", "in_features", "out_features"}
    | {"num_features", "num_channels", "num_groups"}
)
_FREE_NAMES, _BLOCKS, _LISTED = 2, 3, 4
_ITEM = re.compile(r"\[(0|[1-9][0-9]{0,3})\]")  # of a list or tuple
MAX_LENGTH = 1 << 24  # of one dimension
MAX_POSITIONS = 1 << 22  # of all unit lists together: 16 MB of int32
MAX_DIMS = 8
MAX_MULTIPLIES = 1 << 40


def encode(parts: Parts) -> bytes:
    """Return the canonical JSON of ``parts``."""
    numbers = {name: number for number, name in enumerate(_names(parts))}
    extra: dict[str, object] = {}
    if parts.buffers:
        extra["buffers"] = [[item.name, list(item.shape)] for item in parts.buffers]
    if parts.made:
        extra["made"] = sorted([numbers[name], dim] for name, dim in parts.made.items())
    if parts.blocks:
        extra["blocks"] = list(parts.blocks)
    if parts.free:
        extra["free"] = [[item.module, item.rank, item.index] for item in parts.free]
    if parts.running:
        places = {item.name: number for number, item in enumerate(parts.buffers)}
        extra["running"] = [places[name] for name in parts.running]
    rows = {(dim.tensor, dim.dim): row for row, dim in enumerate(parts.dims)}
    found = {
        "version": _version(parts),
        "units": parts.units,
        "tensors": [[tensor.name, list(tensor.shape)] for tensor in parts.tensors],
        "moments": [[moment.name, moment.size] for moment in parts.moments],
        "dims": [
            [numbers[dim.tensor], dim.dim, to_runs(dim.units)] for dim in parts.dims
        ],
        "groups": [
            [
                group.name,
                to_runs(group.units),
                [numbers[name] for name in group.producers],
                [numbers[name] for name in group.norms],
            ]
            for group in parts.groups
        ],
        "attributes": [
            [item.module, item.name, rows[item.tensor, item.dim], item.divisor]
            + ([item.start, item.stop] if item.stop is not None else [])
            for item in parts.attributes
        ],
        "multiplies": sorted(
            [numbers[name], count] for name, count in parts.multiplies.items()
        ),
        **extra,
    }
    return json.dumps(found, sort_keys=True, separators=(",", ":")).encode("ascii")


def decode(data: bytes, check: Check | None = None) -> Parts:
    """Read the canonical JSON of a structure; trust nothing in ``data``.

    Args:
        data: The JSON.
        check: Checks names and sizes before anything of that size is allocated.

    Raises:
        PayloadError: If it is too long, malformed, inconsistent, not canonical, or
            ``check`` refuses it.
    """
    found = load_object(data, "structure", MAX_STRUCTURE)
    read_keys(found, KEYS | (LATER_KEYS & found.keys()), "structure")
    read_int(found["version"], "structure.version", 1, VERSION)
    tensors = _read_tensors(found["tensors"])
    moments = _read_moments(found["moments"])
    units = read_int(found["units"], "structure.units", 0, MAX_UNITS)
    shapes = [(tensor.name, tensor.shape) for tensor in tensors]
    for moment in moments:
        shapes += [(moment.name + suffix, moment.shape) for suffix in STATISTICS]
    buffers = _read_tensors(found["buffers"]) if "buffers" in found else ()
    shapes += [(buffer.name, buffer.shape) for buffer in buffers]
    if check is not None:
        check(Announced(tensors=tensors, moments=moments, buffers=buffers))
    if len({name for name, _ in shapes}) != len(shapes):
        field = "structure.tensors"
        raise refuse(field, "a name is given twice")
    dims = _read_dims(found["dims"], shapes, units)
    parts = Parts(
        tensors=tensors,
        moments=moments,
        units=units,
        dims=dims,
        groups=_read_groups(found["groups"], tensors, units),
        attributes=_read_attributes(found["attributes"], dims),
        multiplies=_read_multiplies(found["multiplies"], tensors),
        buffers=buffers,
        made=_read_made(found["made"], tensors) if "made" in found else {},
        blocks=_read_blocks(found.get("blocks", [])),
        free=_read_free(found.get("free", [])),
        running=_read_running(found.get("running", []), buffers),
    )
    check_consistent(parts)
    if encode(parts) != data:
        field = "structure"
        raise refuse(field, "not in canonical form")
    return parts


def _names(parts: Parts) -> list[str]:
    """Return the name of each tensor number."""
    names = [tensor.name for tensor in parts.tensors]
    names += [item.name + suffix for item in parts.moments for suffix in STATISTICS]
    return names + [buffer.name for buffer in parts.buffers]


def _version(parts: Parts) -> int:
    """Return the lowest version that suffices: old structures keep their digest."""
    if parts.running:
        return VERSION
    listed = any("[" in x.name or x.stop is not None for x in parts.attributes)
    if listed or parts.free:
        return _LISTED
    if parts.blocks:
        return _BLOCKS
    names = {item.name for item in parts.attributes}
    old = not parts.buffers and not parts.made and names <= ATTRIBUTE_NAMES
    return 1 if old else _FREE_NAMES


def _read_tensors(found: object) -> tuple[TensorSpec, ...]:
    field = "structure.tensors"
    tensors = []
    for item in read_list(found, field):
        name, sizes = read_list(item, field, 2)
        shape = tuple(
            read_int(size, field, 1, MAX_LENGTH) for size in read_list(sizes, field)
        )
        if len(shape) > MAX_DIMS or prod(shape) > MAX_WEIGHTS:
            raise refuse(field, f"shape {shape[:MAX_DIMS]} is too large")
        tensors.append(TensorSpec(name=read_name(name, field), shape=shape))
    if sum(tensor.size for tensor in tensors) > MAX_WEIGHTS:
        raise refuse(field, f"more than {MAX_WEIGHTS} weights", Reason.TOO_LARGE)
    return tuple(tensors)


def _read_moments(found: object) -> tuple[TensorSpec, ...]:
    field = "structure.moments"
    moments = []
    for item in read_list(found, field):
        name, size = read_list(item, field, 2)
        channels = read_int(size, field, 1, MAX_LENGTH)
        moments.append(TensorSpec(name=read_name(name, field), shape=(channels,)))
    return tuple(moments)


def _read_dims(
    found: object, shapes: list[tuple[str, tuple[int, ...]]], units: int
) -> tuple[DimUnits, ...]:
    field = "structure.dims"
    dims = []
    keys = [(-1, -1)]
    left = MAX_POSITIONS
    for item in read_list(found, field):
        number, axis, runs = read_list(item, field, 3)
        tensor = read_int(number, field, 0, len(shapes) - 1)
        name, shape = shapes[tensor]
        dim = read_int(axis, field, 0, len(shape) - 1)
        left -= shape[dim]
        if left < 0:
            detail = f"more than {MAX_POSITIONS} positions"
            raise refuse(field, detail, Reason.TOO_LARGE)
        keys.append((tensor, dim))
        row = read_runs(runs, f"{field}[{name}]", shape[dim], units)
        dims.append(DimUnits(tensor=name, dim=dim, units=row))
    if any(a >= b for a, b in pairwise(keys)):
        raise refuse(field, "the (tensor, dim) pairs do not rise strictly")
    return tuple(dims)


def _read_groups(
    found: object, tensors: tuple[TensorSpec, ...], units: int
) -> tuple[PruningGroup, ...]:
    field = "structure.groups"
    groups = []
    left = units  # a partition: the groups never have more than all units together
    for item in read_list(found, field):
        title, runs, producers, norms = read_list(item, field, 4)
        name = read_name(title, field)
        members = _read_members(runs, f"{field}[{name}]", units, left)
        left -= len(members)
        makers = read_positions(producers, field, len(tensors))
        scales = read_positions(norms, field, len(tensors))
        groups.append(
            PruningGroup(
                name=name,
                units=members,
                producers=tuple(tensors[number].name for number in makers),
                norms=tuple(tensors[number].name for number in scales),
            )
        )
    return tuple(groups)


def _read_members(runs: object, field: str, units: int, left: int) -> NDArray[np.int32]:
    """Return the units of a group: at least one, strictly rising."""
    count = 0
    for run in read_list(runs, field):
        count += read_int(read_list(run, field, 3)[1], field, 1, units)
    if not 0 < count <= left:
        raise refuse(field, f"{count} units; want 1..{left}", Reason.BAD_SIZE)
    members = read_runs(runs, field, count, units)
    if members[0] < 0 or (np.diff(members) <= 0).any():
        raise refuse(field, "the units do not rise strictly from 0")
    return members


def _read_attributes(
    found: object, dims: tuple[DimUnits, ...]
) -> tuple[Attribute, ...]:
    field = "structure.attributes"
    attributes = []
    left = MAX_POSITIONS  # read once more, for divisors
    for item in read_list(found, field):
        listed = read_list(item, field)
        module, name, row, divisor = read_list(listed[:4], field, 4)
        if not isinstance(name, str) or not _is_public(name):
            raise refuse(field, f"attribute {repr(name)[:40]} is not one that is cut")
        dim = dims[read_int(row, field, 0, len(dims) - 1)]
        start, stop = _read_part(listed[4:], dim)
        units = dim.units[start:stop]
        share = read_int(divisor, field, 1, len(units))
        left -= len(units) if share > 1 else 0
        if left < 0 or (_unit_sizes(units, share) % share).any():
            raise refuse(field, f"a unit holds a part of {share} channels")
        attributes.append(
            Attribute(
                # The network itself has the empty name.
                module=module if module == "" else read_name(module, field),
                name=name,
                tensor=dim.tensor,
                dim=dim.dim,
                divisor=share,
                start=start,
                stop=stop,
            )
        )
    return tuple(attributes)


def _is_public(name: str) -> bool:
    whole, bracket, rest = name.partition("[")
    item = not bracket or _ITEM.fullmatch(bracket + rest) is not None
    public = whole.isidentifier() and not whole.startswith("_")
    return len(name) <= MAX_PATH and public and item


def _read_part(found: list[object], dim: DimUnits) -> tuple[int, int | None]:
    """Return start and stop of the part of a dimension that an attribute counts."""
    if not found:
        return 0, None
    field = "structure.attributes"
    low, high = read_list(found, field, 2)
    start = read_int(low, field, 0, len(dim.units) - 1)
    stop = read_int(high, field, start + 1, len(dim.units))
    if stop - start == len(dim.units):
        raise refuse(field, "a part is the whole dimension")
    return start, stop


def _read_made(found: object, tensors: tuple[TensorSpec, ...]) -> dict[str, int]:
    field = "structure.made"
    made = {}
    for number, axis in (read_list(item, field, 2) for item in read_list(found, field)):
        tensor = tensors[read_int(number, field, 0, len(tensors) - 1)]
        made[tensor.name] = read_int(axis, field, 1, max(len(tensor.shape) - 1, 1))
    return made


def _read_blocks(found: object) -> tuple[str, ...]:
    field = "structure.blocks"
    return tuple(read_name(item, field) for item in read_list(found, field))


def _read_free(found: object) -> tuple[FreeLength, ...]:
    field = "structure.free"
    free = []
    for item in read_list(found, field):
        module, number, place = read_list(item, field, 3)
        rank = read_int(number, field, 1, MAX_RANK)
        index = read_int(place, field, 0, rank - 1)
        name = module if module == "" else read_name(module, field)
        free.append(FreeLength(module=name, rank=rank, index=index))
    if any((a.module, a.rank) >= (b.module, b.rank) for a, b in pairwise(free)):
        raise refuse(field, "the (module, rank) pairs do not rise strictly")
    return tuple(free)


def _read_running(found: object, buffers: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    numbers = read_positions(found, "structure.running", len(buffers))
    return tuple(buffers[number].name for number in numbers)


def _unit_sizes(units: NDArray[np.int32], share: int) -> NDArray[np.int64]:
    """Return the positions of each unit; empty where nothing divides."""
    if share == 1:
        return np.zeros(0, dtype=np.int64)
    return np.unique(units, return_counts=True)[1]


def _read_multiplies(found: object, tensors: tuple[TensorSpec, ...]) -> dict[str, int]:
    field = "structure.multiplies"
    multiplies = {}
    for item in read_list(found, field):
        number, count = read_list(item, field, 2)
        name = tensors[read_int(number, field, 0, len(tensors) - 1)].name
        multiplies[name] = read_int(count, field, 1, MAX_MULTIPLIES)
    return multiplies
