"""Prune plans: making and checking them, rollback, and the cut of a network by a plan.

A plan always refers to the units of the ORIGINAL network, and is always applied to the
dense network: a device builds the dense network, cuts it by the newest plan and loads
the weights, even if it has missed earlier plans.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from fedprune.common.errors import ConfigError, PayloadError, Reason, StructureError
from fedprune.common.spec import Mask, PrunePlan
from fedprune.common.structure.after_cut.free_lengths import free_lengths
from fedprune.common.structure.after_cut.narrow_attention import narrow
from fedprune.common.structure.after_cut.narrow_embedding import without_rows
from fedprune.common.structure.blocks import drop_blocks
from fedprune.common.structure.structure import Structure


def full_plan(structure: Structure) -> PrunePlan:
    """Return the first plan: every unit kept, no parent."""
    return PrunePlan(structure=structure.digest, keep=structure.full())


def child_plan(structure: Structure, parent: PrunePlan, keep: Mask) -> PrunePlan:
    """Return the plan that cuts ``parent`` down to ``keep``.

    Raises:
        ConfigError: If ``keep`` brings back a unit that the parent has cut, or empties
            a group.
        PayloadError: If the parent is not a plan of this structure.
    """
    check_plan(structure, parent)
    structure.check_mask(keep)
    regrown = np.flatnonzero(keep & ~parent.keep)
    if regrown.size:
        msg = f"{regrown.size} units that the parent has cut come back, the first is"
        msg += f" {regrown[0]}; want a plan nested in its parent"
        raise ConfigError(msg)
    empty = structure.empty_groups(keep)
    if empty:
        msg = f"groups {empty} keep no unit; want at least one in each"
        raise ConfigError(msg)
    return PrunePlan(
        structure=structure.digest,
        keep=keep.copy(),
        parent=parent.digest,
        # A client may have missed the round that brought units back.
        rollback=parent.rollback,
    )


def rollback_plan(
    structure: Structure, current: PrunePlan, ancestor: PrunePlan
) -> PrunePlan:
    """Return the plan of a rollback: it brings back the units cut since ``ancestor``.

    Raises:
        ConfigError: If ``current`` is not nested in ``ancestor``.
        PayloadError: If one of them is not a plan of this structure.
    """
    check_plan(structure, current)
    check_plan(structure, ancestor)
    foreign = np.flatnonzero(current.keep & ~ancestor.keep)
    if foreign.size or current.digest == ancestor.digest:
        msg = f"{foreign.size} units of the current plan are not in the ancestor"
        msg += "; want an earlier plan that the current one is nested in"
        raise ConfigError(msg)
    return PrunePlan(
        structure=structure.digest,
        keep=ancestor.keep.copy(),
        parent=ancestor.digest,
        rollback=True,
    )


def check_plan(structure: Structure, plan: PrunePlan) -> None:
    """Refuse a plan that cannot be applied to the network of ``structure``.

    Raises:
        PayloadError: If it was made for another structure, has another number of
            units, or leaves a group without a unit.
    """
    if plan.structure != structure.digest:
        detail = f"{plan.structure.hex()}; want {structure.digest.hex()}"
        raise _refusal(Reason.BAD_DIGEST, "structure", detail)
    if plan.keep.dtype != np.bool_ or plan.keep.shape != (structure.units,):
        detail = f"{plan.keep.dtype}{list(plan.keep.shape)}"
        detail += f"; want bool[{structure.units}]"
        raise _refusal(Reason.BAD_SIZE, "keep", detail)
    empty = structure.empty_groups(plan.keep)
    if empty:
        detail = f"groups {empty} keep no unit; want at least one in each"
        raise _refusal(Reason.BAD_VALUE, "keep", detail)


def apply_plan(model: nn.Module, structure: Structure, keep: Mask) -> nn.Module:
    """Cut the dense ``model`` in place down to the units in ``keep``; return it.

    Every parameter and running statistic is sliced, in rising order of positions, and
    module attributes are adapted; a block without a unit of its own becomes the
    identity, and an embedding without some rows still takes every token.
    ``requires_grad``, training flags, dtype and device stay, and tied tensors stay one
    object.  Gradients are dropped, and the parameters are new: build the optimizer
    afterwards.

    Law: the masked dense network (every tensor zero at the cut units, except running
    statistics, and the directions of weight norm, whose magnitude is zero) and the cut
    network compute the same function.

    Raises:
        StructureError: If the model is not the dense network of ``structure``.
    """
    structure.check_mask(keep)
    _check_model(model, structure)
    drop_blocks(model, structure.dropped(keep))
    left = structure.living(keep)
    names: dict[int, str] = {}
    for name, item in [*model.named_parameters(), *model.named_buffers()]:
        names.setdefault(id(item), name)
    tables = _tables(model, names)
    _cut_tensors(model, names, left, keep)
    for follow in left.attributes:
        kept = left.kept_index(follow.tensor, follow.dim, keep)
        module = model.get_submodule(follow.module)
        _write_count(module, follow.name, follow.count(kept))
    # Modules that keep tensors made of weights drop them, as when they are moved.
    model._apply(_unchanged)  # type: ignore[no-untyped-call]  # noqa: SLF001 - which they extend
    narrow(model)
    for table, name in tables:
        without_rows(table, left.kept_index(name, 0, keep))
    if not keep.all():
        free_lengths(model, left.free)
    return model


def _cut_tensors(
    model: nn.Module, names: dict[int, str], left: Structure, keep: Mask
) -> None:
    """Slice every parameter and buffer, in place."""
    # Keyed by the old tensor, so that tied tensors stay tied.
    cut: dict[int, torch.Tensor] = {}
    for module in model.modules():
        own = [
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        ]
        for attribute, item in own:
            if id(item) not in cut:
                cut[id(item)] = _cut_tensor(item, names[id(item)], left, keep)
            if cut[id(item)] is not item:
                setattr(module, attribute, cut[id(item)])


def _unchanged(item: torch.Tensor) -> torch.Tensor:
    return item


def _tables(model: nn.Module, names: dict[int, str]) -> list[tuple[nn.Embedding, str]]:
    """Return the embeddings with the names of their weights, before a cut."""
    return [
        (module, names[id(module.weight)])
        for module in model.modules()
        if type(module) is nn.Embedding
    ]


def _cut_tensor(
    item: torch.Tensor, name: str, structure: Structure, keep: Mask
) -> torch.Tensor:
    """Return ``item`` without its cut positions, the same object if it has none."""
    dims = [
        dim
        for dim in range(item.dim())
        if structure.lookup.get((name, dim)) is not None
    ]
    if not dims:
        return item
    found = item.detach()
    for dim in dims:
        index = torch.from_numpy(structure.kept_index(name, dim, keep))
        found = found.index_select(dim, index.to(item.device))
    if isinstance(item, nn.Parameter):
        return nn.Parameter(found.contiguous(), requires_grad=item.requires_grad)
    return found.contiguous()


def _check_model(model: nn.Module, structure: Structure) -> None:
    """Refuse a model whose tensors or modules are not those of the structure."""
    found = {name: tuple(item.shape) for name, item in model.named_parameters()}
    wanted = {tensor.name: tensor.shape for tensor in structure.tensors}
    if found != wanted or [*found] != [*wanted]:
        differing = sorted(dict(found.items() ^ wanted.items()))[:3]
        msg = f"the model is not the dense network of the structure: {differing}"
        raise StructureError(msg)
    buffers = {name: tuple(item.shape) for name, item in model.named_buffers()}
    modules = dict(model.named_modules())
    for moment in structure.moments:
        if buffers.get(f"{moment.name}.running_mean") != moment.shape:
            msg = f"module '{moment.name}' has no {moment.size} running statistics"
            raise StructureError(msg)
    for buffer in structure.buffers:
        if buffers.get(buffer.name) != buffer.shape:
            msg = f"the model has no buffer '{buffer.name}' of shape {buffer.shape}"
            raise StructureError(msg)
    _check_code(structure, modules)


def _check_code(structure: Structure, modules: Mapping[str, nn.Module]) -> None:
    """Refuse modules whose attributes are not those of the structure."""
    absent = [item.module for item in structure.free if item.module not in modules]
    if absent:
        msg = f"the model has no module '{absent[0]}'"
        raise StructureError(msg)
    for item in structure.attributes:
        # Only a known count may be overwritten: a structure may come from outside.
        length = structure.shapes[item.tensor][item.dim]
        count = item.count(np.arange(length, dtype=np.int64))
        found_here = _read_count(modules.get(item.module), item.name)
        if type(found_here) is not int or found_here != count:
            msg = f"module '{item.module}' has no attribute '{item.name}' = {count}"
            raise StructureError(msg)


def _read_count(module: nn.Module | None, name: str) -> object:
    """Return an attribute, or an item of a plain list or tuple; None where none is."""
    whole, _, index = name.removesuffix("]").partition("[")
    found = vars(module).get(whole) if module is not None else None
    if not index:
        return found
    if type(found) is not list and type(found) is not tuple:
        return None
    return found[int(index)] if int(index) < len(found) else None


def _write_count(module: nn.Module, name: str, count: int) -> None:
    """Set an attribute, or an item of a new list or tuple: others may share the old."""
    whole, _, index = name.removesuffix("]").partition("[")
    if not index:
        setattr(module, whole, count)
        return
    items = [*getattr(module, whole)]
    items[int(index)] = count
    setattr(module, whole, type(getattr(module, whole))(items))


def _refusal(reason: Reason, field: str, detail: str) -> PayloadError:
    return PayloadError(reason, f"plan.{field}", detail)
