"""Find the structure of a network: the channels that must be cut together.

The network is traced (torch.fx) in eval mode on a copy, run once on an example as it
is traced, and walked operation by operation.  The result depends on the architecture
only: not on weights, on ``requires_grad`` or on the order of unions.  The graph's name
also says which weights are trained.
"""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree
from typing_extensions import override

from fedprune.common.errors import ConfigError, StructureError
from fedprune.common.models.inputs import arguments, longer_batch
from fedprune.common.structure.blocks import offer_blocks
from fedprune.common.structure.labels import Labelling
from fedprune.common.structure.sizes import (
    Ledger,
    remember_settings,
    settings_of_layers,
)
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.assemble import assemble
from fedprune.common.structure.tracing.covered import with_covering_norms
from fedprune.common.structure.tracing.graph import graph_digest
from fedprune.common.structure.tracing.hooks import check_hooks
from fedprune.common.structure.tracing.proxies import numbers_of_math
from fedprune.common.structure.tracing.settle import settle
from fedprune.common.structure.tracing.tracer import RunError, Tracer
from fedprune.common.structure.tracing.walk import WAY_OUT, Walk
from fedprune.common.text import first_line
from fedprune.common.user_code import did_you_mean, in_own_code

_ROUNDS = 3  # walks over a network
CONSTANT = "inputs that are never cut"
Example = torch.Tensor | tuple[object, ...] | dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The structure of a network, and notes on channels that it does not cut.

    Attributes:
        structure: Its units, groups and blocks.
        notes: Channels that could be followed and are still not cut, with the
            operation that is the reason, in the order of the network.
        graph: Name of the traced network (``fedprune.common.structure.tracing.graph``).
        whole: Why a dimension of a weight is not cut, or not all of it, by (tensor,
            dimension).
    """

    structure: Structure
    notes: tuple[str, ...]
    graph: str
    whole: Mapping[tuple[str, int], str]

    @override
    def __str__(self) -> str:
        """Return a line for each group, with its units, and one for each note."""
        groups = self.structure.groups
        lines = [f"groups: {len(groups)}, units: {self.structure.units}"]
        lines += [f"  {group.name}: {len(group.units)}" for group in groups]
        return "\n".join([*lines, *(f"not cut: {note}" for note in self.notes)])


def find_structure(
    model: nn.Module,
    example: Example,
    *,
    ignore: Sequence[str] = (),
    blocks: bool = False,
    vocabulary: Sequence[str] = (),
) -> Structure:
    """Return the structure of ``model``; the model is left as it was.

    The input and the outputs are never cut.  Nothing inside what ``ignore`` names is
    cut, nor the channels that go into it or come out of it.

    Args:
        model: The dense network.
        example: One valid input, batch first; a tuple for several inputs, a dict for
            keyword arguments, or for one that is a dict.
        ignore: Names of modules, of parameters, or of operations as an error names
            them.
        blocks: Whether whole residual blocks may be dropped.
        vocabulary: Names of embeddings (``nn.Embedding``) whose rows are units: a token
            without a row is embedded as zeros.  The width of such an embedding is cut
            only where another weight makes it too.

    Raises:
        StructureError: If the network cannot be traced.
        ConfigError: If ``ignore`` names nothing that exists, or ``vocabulary`` no
            embedding.
    """
    return find(
        model, example, ignore=ignore, blocks=blocks, vocabulary=vocabulary
    ).structure


def find(
    model: nn.Module,
    example: Example,
    *,
    ignore: Sequence[str] = (),
    blocks: bool = False,
    vocabulary: Sequence[str] = (),
    running: Collection[str] = (),
) -> Findings:
    """Return the structure of ``find_structure``, with notes and the graph.

    Args:
        model: As for ``find_structure``, like all that is not named here.
        example: One valid input.
        ignore: Names that are not cut.
        blocks: Whether whole residual blocks may be dropped.
        vocabulary: Names of embeddings.
        running: Names of the buffers that training changes: channels are followed
            through what the network's own code calculates from them.
    """
    given = {"ignore": ignore, "vocabulary": vocabulary}
    try:
        found = examine(model, example, **given, running=running)
    except StructureError:
        if not running:
            raise
        # Code may need the number that such a buffer has.
        found = examine(model, example, **given)
    if not blocks:
        return found
    return replace(found, structure=offer_blocks(model, example, found.structure))


def examine(
    model: nn.Module,
    example: Example,
    *,
    ignore: Sequence[str] = (),
    vocabulary: Sequence[str] = (),
    running: Collection[str] = (),
) -> Findings:
    """Return the structure of ``model``, and notes on channels that it does not cut.

    Arguments and errors are those of ``find_structure``, ``running`` that of ``find``.
    """
    _check_storage(model)
    examples = arguments(model, example)
    check_hooks(model, {n for n, _ in _opened(model, Tracer(examples, ignore))})
    try:
        traced = _record(model, Tracer(examples, ignore, running), fills=True)
    except StructureError:
        # Code may need to know a tensor that it makes itself.
        traced = _record(model, Tracer(examples, ignore, running), fills=False)
    network, graph = traced.network, traced.graph
    _check_ignore(network, graph, ignore)
    labelling, structure = _labelled(traced, _embeddings(network, vocabulary))
    return Findings(
        structure=with_covering_norms(model, graph, examples, structure),
        notes=tuple(labelling.notes),
        graph=graph_digest(network, graph),
        whole={key: why for key, why in _whole(labelling) if why},
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Traced:
    """A copy of a network, and what it did on the example.

    Attributes:
        network: The copy, in eval mode.
        tracer: The tracer, with the results of all operations.
        graph: The operations.
        ledger: Calculations with attributes.
        own: Modules whose code is traced, with their names.
        fills: Whether tensors made of one number are recorded.
    """

    network: nn.Module
    tracer: Tracer
    graph: fx.Graph
    ledger: Ledger
    own: list[tuple[str, nn.Module]]
    fills: bool

    @property
    def layers(self) -> frozenset[str]:
        """Names of the modules that are called as one operation."""
        opened = {id(module) for _, module in self.own}
        named = self.network.named_modules()
        return frozenset(name for name, module in named if id(module) not in opened)


def _record(model: nn.Module, tracer: Tracer, *, fills: bool) -> _Traced:
    """Trace a copy of a network in eval mode."""
    network, examples = _copy(model).eval(), tracer.examples
    own = _opened(network, tracer)
    tracer.ledger = ledger = remember_settings(network, own)
    with settings_of_layers(network, own, ledger):
        graph = _trace(network, tracer, examples, fills=fills)
    if fills and any(isinstance(item, fx.Proxy) for item in network.buffers()):
        msg = "the network keeps a tensor that its forward makes"
        raise StructureError(msg)
    return _Traced(
        network=network, tracer=tracer, graph=graph, ledger=ledger, own=own, fills=fills
    )


def _labelled(
    traced: _Traced, vocabulary: AbstractSet[str]
) -> tuple[Labelling, Structure]:
    """Return the labelling of a traced network, and its structure.

    Where one of several dimensions can go on with labels (the heads of an attention or
    the width of a head), the first does; where it ends whole, the next is tried, and
    kept if the network can be cut further.
    """
    network, claims = traced.network, [*traced.ledger.claims]
    preferred: dict[str, int] = {}
    found: list[tuple[Labelling, Structure]] = []
    while len(found) < _ROUNDS:
        labelling = Labelling(network, vocabulary, preferred)
        labelling.layers = traced.layers
        walk = Walk(network, traced.tracer.results, traced.tracer.ignore, labelling)
        for node in traced.graph.nodes:
            walk.visit(node)
        _follow_training(traced, walk)
        labelling.claims += claims
        settle(labelling)
        others = labelling.other_choices()
        found.append((labelling, assemble(network, labelling)))
        if not others:
            break
        preferred = preferred | others
    return min(found, key=lambda one: _least_work(one[1]))


def _least_work(structure: Structure) -> int:
    """Return the multiplications of one example with one unit in each group."""
    keep = np.zeros(structure.units, dtype=np.bool_)
    keep[[int(group.units[0]) for group in structure.groups]] = True
    return sum(
        positions * prod(structure.shape(name, keep))
        for name, positions in structure.multiplies.items()
    )


def _whole(labelling: Labelling) -> Iterator[tuple[tuple[str, int], str]]:
    """Yield each dimension of a weight that has been recorded, with its reason."""
    for key, labels in labelling.dims.items():
        yield key, CONSTANT if labels is None else labelling.reason(labels)


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        # torch copies no tensor that was calculated, which a module may keep.
        msg = f"the network cannot be copied: {first_line(error)}"
        raise StructureError(msg) from error


def _check_storage(model: nn.Module) -> None:
    """Refuse different tensors in one memory: a cut would part them."""
    owners: dict[int, str] = {}
    for name, item in [*model.named_parameters(), *model.named_buffers()]:
        address = item.untyped_storage().data_ptr() if item.numel() else 0
        if address and address in owners:
            msg = f"tensors '{owners[address]}' and '{name}' share memory without being"
            msg += " one tensor, so a cut would part them; tie them as one Parameter"
            raise StructureError(msg)
        owners[address] = name


def _opened(model: nn.Module, tracer: Tracer) -> list[tuple[str, nn.Module]]:
    """Return the modules whose own code is traced."""
    found: list[tuple[str, nn.Module]] = []

    def collect(name: str, module: nn.Module) -> None:
        holds = isinstance(module, nn.ModuleList | nn.ModuleDict)
        if name and not holds and tracer.is_leaf_module(module, name):
            return
        found.append((name, module))
        for child, inner in module.named_children():
            collect(f"{name}.{child}" if name else child, inner)

    collect("", model)
    return found


def _trace(
    model: nn.Module, tracer: Tracer, examples: Sequence[object], *, fills: bool
) -> fx.Graph:
    makes = tracer.makes(fills=fills)
    try:
        with (
            torch.no_grad(),
            _plain_attention(),
            numbers_of_math(),
            _same_draws(),
            makes,
        ):
            return tracer.trace(model)
    except RunError as error:
        msg = f"the network does not run on an example of shape {_shapes(examples)}:"
        msg += f" {error}"
        raise StructureError(msg) from error
    except (Exception, SystemExit) as error:
        # fx raises any error that the model's own code raises on symbolic values.
        where = f"module '{tracer.where}'" if tracer.where else "the network"
        text = first_line(error)
        own = in_own_code(error)
        msg = f"{where} cannot be traced: {text}{own}. {WAY_OUT}"
        raise StructureError(msg) from error


def _shapes(examples: Sequence[object]) -> str:
    """Return the shape of each tensor, with its key where it has one."""
    found = []
    for path, leaf in pytree.tree_leaves_with_path(tuple(examples)):
        if isinstance(leaf, torch.Tensor):
            keys = [str(step.key) for step in path if hasattr(step, "key")]
            name = f"{'.'.join(keys)} " if keys else ""
            found.append(f"{name}{list(leaf.shape)}")
    return " and ".join(found)


@contextmanager
def _same_draws() -> Iterator[None]:
    """Give a forward the same random draws in each trace; they are part of the name."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep torch from running whole transformer layers as one operation."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _check_ignore(model: nn.Module, graph: fx.Graph, ignore: Sequence[str]) -> None:
    known = {name for name, _ in model.named_modules() if name}
    known |= {name for name, _ in model.named_parameters(remove_duplicate=False)}
    unknown = sorted(set(ignore) - known - {node.name for node in graph.nodes})
    if unknown:
        msg = f"ignore names {unknown}, which the network does not have"
        msg += did_you_mean(unknown[0], known)
        raise ConfigError(msg)


def _embeddings(model: nn.Module, names: Sequence[str]) -> set[str]:
    """Return the first name of each embedding that is named.

    Raises:
        ConfigError: If a name is that of no embedding.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    titles = {id(module): name for name, module in model.named_modules()}
    for name in names:
        kind = type(modules[name]).__name__ if name in modules else "nothing"
        if type(modules.get(name)) is not nn.Embedding:
            known = [n for n, m in modules.items() if type(m) is nn.Embedding]
            msg = f"vocabulary names '{name}', which is {kind}; want an nn.Embedding of"
            msg += f" the network: {known}"
            raise ConfigError(msg)
    return {titles[id(modules[name])] for name in names}


def _follow_training(traced: _Traced, walk: Walk) -> None:
    """Follow what only training runs, such as auxiliary heads, in the same labelling.

    Weights that training does not reach either stay whole.
    """
    model, running = traced.network, traced.tracer.running
    if not [*_unreached(model, walk.labelling)] and not _unread(
        model, walk.labelling, running
    ):
        return
    examples = longer_batch(traced.tracer.examples)
    tracer = Tracer(examples, traced.tracer.ignore, running)
    tracer.ledger = traced.ledger
    try:
        graph = _trace_training(traced, tracer)
    except StructureError as error:
        reason = f"the network in train mode: {first_line(error)}"
    else:
        counted = dict(walk.labelling.multiplies)
        later = Walk(model, tracer.results, tracer.ignore, walk.labelling)
        for node in graph.nodes:
            later.visit(node)
        walk.labelling.multiplies |= counted  # one pass, not both together
        reason = "the network does not reach it"
    finally:
        model.eval()
    for name, item in _unreached(model, walk.labelling):
        walk.labelling.notes[f"parameter '{name}': {reason}, so it stays whole"] = None
        for dim in range(item.dim()):
            walk.labelling.record(item, dim, None)


def _trace_training(traced: _Traced, tracer: Tracer) -> fx.Graph:
    """Trace the network in training mode, in which it is left, with its buffers."""
    model = traced.network
    buffers = [
        (module, dict(module.named_buffers(recurse=False)))
        for module in model.modules()
    ]
    try:
        with settings_of_layers(model, traced.own, traced.ledger):
            return _trace(model.train(), tracer, tracer.examples, fills=traced.fills)
    finally:
        for module, before in buffers:  # where code has put what it calculated
            for name, item in before.items():
                setattr(module, name, item)


def _unread(model: nn.Module, labelling: Labelling, running: Collection[str]) -> bool:
    """Return whether only training uses one of the running buffers with positions."""
    known = {name for name, _ in labelling.dims}
    return any(
        name in running and name not in known and max(item.shape, default=1) > 1
        for name, item in model.named_buffers()
    )


def _unreached(
    model: nn.Module, labelling: Labelling
) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the weights that no operation has recorded."""
    reached = {tensor for tensor, _ in labelling.dims}
    for name, item in model.named_parameters():
        if name not in reached and item.dim() > 0:
            yield name, item
