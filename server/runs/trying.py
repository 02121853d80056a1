"""Trial of a network before a run: its structure, a cut, its budget."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from fedprune.common.config import (
    FRESH_PENALTY,
    Config,
    is_pretrained,
    load_methods,
    own_methods,
    refuse_faults,
)
from fedprune.common.data.examples import Batch
from fedprune.common.data.held_out import check_held_out
from fedprune.common.dry_run import (
    check_steady,
    declared_batch,
    dry_run,
    dry_run_cut,
    dry_run_others,
    first_batch,
)
from fedprune.common.errors import (
    ConfigError,
    IntegrityError,
    PayloadError,
    StructureError,
)
from fedprune.common.methods.kinds import AUTO, CONSENSUS, RATE_SCHEDULE, SCHEDULE
from fedprune.common.methods.registry import OFF
from fedprune.common.methods.schedule import density_at, learning_rate
from fedprune.common.models.buffers import drawn_buffers, running_buffers
from fedprune.common.models.registry import build_model
from fedprune.common.models.training import check_frozen
from fedprune.common.pruning.cost import check_budget
from fedprune.common.pruning.latency import LatencyTable, load_table
from fedprune.common.pruning.nearest import reach_of
from fedprune.common.pruning.verify import check_cut, check_exact
from fedprune.common.seeding import globals_at
from fedprune.common.spec import Mask, TensorSpec
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import Findings, find
from fedprune.common.tasks.check_data import check_data
from fedprune.common.tasks.fresh import check_fresh, undrawn
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.tasks.task import Task
from fedprune.common.text import and_more
from fedprune.common.user_code import call_factory
from fedprune.server.rounds.cut import (
    aimed_penalty,
    budget_targets,
    consensus,
    too_few_cuts,
)
from fedprune.server.rounds.steps.reconstruction import (
    check_reconstruct,
    told_bytes,
    what_hinders,
)
from fedprune.server.runs.controls.names import FRESH, kind_of
from fedprune.server.runs.events import RunStarted, of_kind, read_events
from fedprune.server.runs.events.kinds import NAMES
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.tracking import check_trackers

_NAMED = 3  # reasons in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A network that was tried, so that a run can start with it.

    Attributes:
        structure: Its structure.
        graph: Digest of its computation, without its weights.
        remarks: One line for each allowed but unusual property.
        metric: Name of the task's headline metric.
        higher_is_better: Its direction.
        device: Kind of the device that trains: "cpu", "cuda" or "mps".
        reach: Its smallest possible size and the reasons for it, and what follows from
            pretrained weights, one line; "" where nothing is to be cut.
        latency: Latency table of the budget, or None.
    """

    structure: Structure
    graph: str
    remarks: tuple[str, ...]
    metric: str
    higher_is_better: bool
    device: str
    reach: str
    latency: LatencyTable | None


def structure_of(task: LoadedTask, model: nn.Module) -> Structure:
    """Return the structure of a dense network, and blocks if a cut may drop them.

    Raises:
        StructureError: If its channels cannot be followed.
        ConfigError: If blocks may be dropped and the network has none.
    """
    return _found(task, model).structure


def try_network(task: LoadedTask, model: nn.Module, *, data: bool = True) -> Tried:
    """Try a network before a run: one batch, its structure, a cut, its budget.

    Args:
        task: The task.
        model: Its dense network; left as it was.
        data: Whether the task has its examples; a server may only know their shape.

    Raises:
        ConfigError: If the network does not fit the task, training changes tensors that
            clients cannot average, nothing can be cut, or the budget cannot be met.
        DataError: If the data do not fit the configuration.
        StructureError: If its channels cannot be followed, clients could not read the
            structure, or a cut network computes or learns another function.
    """
    if not data and task.config.attack.kind != OFF:
        msg = f"attack.kind is '{task.config.attack.kind}': devices are never made "
        msg += "hostile; want 'none', or fedprune simulate"
        raise ConfigError(msg)
    _try_rules(task.config)
    other = _made_with((task.config.run.seed + 1) % 2**32, task)
    _check_new(model, other)
    check_frozen(model, task.config.task.freeze)
    remarks = _seems_pretrained(task.config, model, other)
    remarks += _check_examples(task) if data else ()
    batch = first_batch(task) if data else declared_batch(task)
    tried_once = dry_run(task, model, batch)
    if data:
        dry_run_others(task, model)
    found = _found(task, model)
    _check_hidden(task.config, found.structure)
    _check_readable(found.structure)
    if needs_fresh(task.config):
        check_fresh(task, found.structure)
    latency = load_table(task.config)
    if latency is not None:
        latency.check(found.structure)
    remarks += check_reconstruct(task.config, found.structure)
    cuts = task.config.rounds.cuts > 0
    few = too_few_cuts(found.structure, task.config, latency) if cuts else ""
    tried = Tried(
        structure=found.structure,
        graph=found.graph,
        remarks=(*remarks, *tried_once.remarks, *([few] if few else [])),
        metric=tried_once.metric,
        higher_is_better=task.higher_is_better,
        device=task.device.type,
        reach=_said_first(task.config, found) if cuts else "",
        latency=latency,
    )
    if cuts:
        check_steady(task, model, batch)
        _check_cuts(task, model, batch, found, latency)
    return tried


def _said_first(config: Config, found: Findings) -> str:
    """Return the size that cuts can reach, and the defaults of pretrained weights."""
    reach = str(reach_of(found.structure, found.whole))
    if not is_pretrained(config.task):
        return reach
    follows = ["no penalty"] if config.client.penalty == AUTO else []
    if config.prune.reconstruct == AUTO:
        reason = what_hinders(config, found.structure)
        size = told_bytes(found.structure)
        how = (
            f"stay: {reason}"
            if reason
            else f"are rebuilt: {size} bytes more before a cut"
        )
        follows.append(f"the layers behind a cut {how} (prune.reconstruct)")
    said = f"; from pretrained weights: {', '.join(follows)}" if follows else ""
    return reach + said


def needs_fresh(config: Config) -> bool:
    """Return whether a run draws weights anew: itself, or one of its controls."""
    controls = {kind_of(name) for name in config.run.controls}
    return config.prune.restart == "fresh" or not controls.isdisjoint(FRESH)


def _try_rules(config: Config) -> None:
    """Load all methods, and apply a user's own rules of the server to small inputs."""
    load_methods(config)
    own = own_methods(config)
    prune, client = config.prune, config.client
    for progress in (0.0, 0.5, 1.0) if SCHEDULE.key in own else ():
        density_at(prune.schedule, 0.5, progress, power=prune.power)
    for round_ in (1, 2, 3) if RATE_SCHEDULE.key in own else ():
        learning_rate(client.lr_schedule, client.lr, round_, 3)
    if CONSENSUS.key in own:
        told = np.arange(1, 5, dtype=np.float32)  # equal scores would say nothing
        votes = dict.fromkeys(("a", "b", "c"), told)
        consensus(votes, dict.fromkeys(votes, 1), prune.consensus)


def _check_new(model: nn.Module, other: nn.Module) -> None:
    """Refuse code that shares one network, or draws what no file stores.

    Clients would share the first; ``load_model`` could not rebuild the second.
    """
    known = {id(weight) for weight in model.parameters()}
    if any(id(weight) in known for weight in other.parameters()):
        msg = "the network's function returned the same weights twice; want a new"
        msg += " network every time, for example: lambda: Net()"
        raise ConfigError(msg)
    drawn = drawn_buffers(model, other)
    if drawn:
        msg = f"the network's code draws {drawn} at random, and no file would have it:"
        msg += " want persistent=True, or a buffer that is always the same"
        raise ConfigError(msg)


def _seems_pretrained(
    config: Config, model: nn.Module, other: nn.Module
) -> tuple[str, ...]:
    """Return a line about weights that no seed changes, and that a penalty would move.

    The keys do not say that a user's own code loads them.
    """
    if config.client.penalty != AUTO or aimed_penalty(config) == OFF:
        return ()
    shapes, others = (
        [(name, weight.shape) for name, weight in one.named_parameters()]
        for one in (model, other)
    )
    if shapes != others:
        return ()  # its widths, or their order, are drawn too
    sizes = {name: shape.numel() for name, shape in shapes}
    if 2 * sum(sizes[name] for name in undrawn(model, other)) <= sum(sizes.values()):
        return ()
    text = "the network's code gives the same weights for each seed: if they are "
    text += "pretrained, set client.penalty = 'none' and prune.reconstruct = true, "
    return (f"{text}else client.penalty = '{FRESH_PENALTY}'",)


def _made_with(seed: int, task: LoadedTask) -> nn.Module:
    """Return the network as its code makes it with another seed."""
    make = task.factory
    if make is None and type(task.task).network is not Task.network:
        make = task.task.network
    if make is None:
        return build_model(
            task.config.task.model,
            num_outputs=task.num_outputs,
            input_shape=task.input_shape,
            seed=seed,
        )
    with globals_at(seed):
        return call_factory(make)


def _check_examples(task: LoadedTask) -> tuple[str, ...]:
    remarks = (*check_data(task), *_left_out(task))
    loss = task.config.task.loss
    if task.task.has_own_data or task.task.has_own_loss:
        return remarks
    if loss not in ("cross-entropy", "mse"):
        return remarks
    return (*remarks, *check_held_out(task.dataset, classes=loss != "mse"))


def _left_out(task: LoadedTask) -> tuple[str, ...]:
    """Return a line about clients of the data that take no part."""
    found, whole = len(task.clients), len(task.task.clients())
    if found >= whole:
        return ()
    text = f"the first {found} of the {whole} clients that the data name take part"
    return (f"{text} (task.clients); 0 = all",)


def try_config(config: Config) -> None:
    """Try the network of a configuration on the server, before anything is made.

    Raises:
        FedPruneError: As for ``try_network``, and of faults, which only simulations
            have.
    """
    refuse_faults(config.faults, "a server")
    check_trackers(config.run.track)
    task = LoadedTask(config)
    try_network(task, task.build_model(), data=False)


def check_unchanged(folder: RunFolder, tried: Tried) -> None:
    """Refuse a network that is not the one that a run of devices started with.

    Raises:
        IntegrityError: If its graph or its structure is missing or differs.
    """
    started = next(of_kind(read_events(folder.events), RunStarted), None)
    if started is None and not any(folder.checkpoints.glob("*.safetensors")):
        return  # no round has ended yet
    name = NAMES[RunStarted]
    folder.check_noted((name,) if started else (), (name,), folder.events)
    same = started is not None and started.graph == tried.graph
    if not same or folder.structure.read_bytes() != tried.structure.to_json():
        msg = f"{folder.path} cannot continue: the network (its operations, settings or"
        msg += " shapes) changed since it started; put it back, or start a new run"
        raise IntegrityError(msg)


def cut_check(task: LoadedTask, structure: Structure) -> Callable[[Mask], None]:
    """Return the trial of a keep mask, called before it becomes the state of a run.

    It raises StructureError naming the groups that fail, and changes nothing.
    """

    def check(keep: Mask) -> None:
        check_cut(task.build_model(), structure, task.example(), keep)

    return check


def _found(task: LoadedTask, model: nn.Module) -> Findings:
    config = task.config
    blocks = config.prune.blocks > 0
    # First: code that does not train is a plainer error than one of its structure.
    running = running_buffers(model, task.example())
    found = find(
        model,
        task.example(),
        ignore=config.task.ignore,
        blocks=blocks,
        vocabulary=config.task.vocabulary,
        running=running,
    )
    if blocks and not found.structure.blocks:
        msg = f"prune.blocks is {config.prune.blocks}, and no block of the network can"
        msg += " be dropped; want 0 (docs/guide.md says what a block is)"
        raise ConfigError(msg)
    buffers = (
        TensorSpec(name=name, shape=tuple(item.shape))
        for name, item in model.named_buffers()
    )
    structure = found.structure.averaging(running, buffers)
    return replace(found, structure=structure)


def _check_readable(structure: Structure) -> None:
    try:
        Structure.from_json(structure.to_json())
    except PayloadError as error:
        msg = f"clients could not read the structure of the network: {error}"
        raise StructureError(msg) from error


def _check_hidden(config: Config, structure: Structure) -> None:
    """Refuse buffers that no noise covers where noise hides the clients."""
    if config.privacy.hides_clients and structure.running:
        key = "epsilon" if config.privacy.epsilon is not None else "local_noise"
        names = and_more([f"'{name}'" for name in structure.running], _NAMED)
        msg = f"training changes buffers of the network beside batch norm ({names}), "
        msg += f"which have no noise; want a network without, or no privacy.{key}"
        raise ConfigError(msg)


def _check_cuts(
    task: LoadedTask,
    model: nn.Module,
    batch: Batch,
    found: Findings,
    latency: LatencyTable | None,
) -> None:
    """Refuse a network that cannot be cut, or not as far as its budget wants."""
    structure = found.structure
    if structure.units == 0:
        msg = f"nothing of the network can be cut: {_obstacles(model, found.notes)}"
        msg += "; want another network, or rounds.cuts = 0"
        raise ConfigError(msg)
    _check_budget(task.config, found, latency)
    check_exact(model, structure, task.example())
    dry_run_cut(task, model, batch, structure)


def _check_budget(
    config: Config, found: Findings, latency: LatencyTable | None
) -> None:
    try:
        check_budget(
            found.structure,
            budget_targets(config),
            floor=config.prune.floor,
            width_multiple=config.width_multiple,
            latency=latency,
        )
    except ConfigError as error:
        if not found.notes:
            raise
        reach = reach_of(found.structure, found.whole)
        msg = f"{error}; {reach}; not cut at all: {_listed(found.notes)}"
        raise ConfigError(msg) from error


def _obstacles(model: nn.Module, notes: tuple[str, ...]) -> str:
    """Return why nothing can be cut: notes, or the modules that have weights."""
    if notes:
        return _listed(notes)
    holders = tuple(
        f"'{name}' ({type(module).__name__})"
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    )
    return f"no channel lies between its modules {_listed(holders)}"


def _listed(texts: tuple[str, ...]) -> str:
    return and_more(texts, _NAMED, "; ")
