"""Dry run: one batch through local training, before a run or a device starts.

Data, network, loss and metric are tested together: a mismatch is reported before the
start in one line, and not by every client of the first round.  The dry run works on
copies and on its own random stream, so it does not change the results of the run.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fedprune.common import native
from fedprune.common.data.examples import ArrayExamples, Batch, Examples
from fedprune.common.errors import ConfigError, DataError, FedPruneError, StructureError
from fedprune.common.models.flat import norm_modules
from fedprune.common.models.inputs import tensors_in
from fedprune.common.models.layout import lay_out
from fedprune.common.models.shown import hint, shapes
from fedprune.common.models.training import autocast, frozen
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import half_mask
from fedprune.common.seeding import Use, seed_globals
from fedprune.common.spec import Indices
from fedprune.common.structure.structure import Structure
from fedprune.common.tasks.checked import (
    check_finite,
    check_optimizer,
    ignored_remarks,
    label_remarks,
    optimizer_remarks,
    state_remarks,
    together_remarks,
)
from fedprune.common.tasks.counted import chosen, counted
from fedprune.common.tasks.loaded import LoadedTask, run_network
from fedprune.common.tasks.losses import POSITIONS, logits_of
from fedprune.common.tasks.outputs import VALUES, check_outputs
from fedprune.common.text import first_line

_EXAMPLES = 8
_RATE = 1e-3  # of the one step, whose weights are discarded
_SAME = 1e-4  # largest difference of two runs of one network
_SUM = 1e-4  # largest difference from 1 of a sum of probabilities in bfloat16


def first_batch(task: LoadedTask) -> Batch:
    """Return the first training examples of a task."""
    return task.sample.batch(_first(task.sample))


def _first(examples: Examples) -> Indices:
    return np.arange(min(_EXAMPLES, len(examples)))


def declared_batch(task: LoadedTask) -> Batch:
    """Return a batch of zeros of the shape that a task declares: a server has no data.

    Without ``task.outputs`` or ``task.input_shape`` the first training examples.
    """
    chosen = task.config.task
    if not chosen.outputs or not chosen.input_shape or chosen.loss in POSITIONS:
        return first_batch(task)
    inputs = task.example()
    targets = torch.zeros(len(inputs), dtype=torch.int64)
    if chosen.loss in VALUES:
        targets = torch.zeros(len(inputs), chosen.outputs)
    return Batch(inputs=inputs, targets=targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """Findings of a dry run.

    Attributes:
        metric: Name of the headline metric.
        remarks: One line for each valid but unusual property.
    """

    metric: str
    remarks: tuple[str, ...]


def dry_run(task: LoadedTask, model: nn.Module, batch: Batch) -> DryRun:
    """Run a batch through network, loss, metric and one step of training.

    Args:
        task: Loss and metric.
        model: The dense network; not changed.
        batch: Examples of the task.

    Raises:
        ConfigError: If the network does not fit the task, or the coder that
            ``FEDPRUNE_CODER`` asks for is not here.
        DataError: If the targets do not fit the loss.
    """
    native.kernels()
    with _sealed(task.config.run.seed):
        trial = lay_out(_copy(model), batch.inputs)
        trial.eval()
        with torch.no_grad():
            outputs = _outputs(task, trial, batch, "")
            _losses(task, outputs, batch, "")
            metric = _headline(task, outputs, batch)
            remarks = _remarks(task, outputs, batch)
        _check_draws(task, trial, batch)
        before = dict(vars(task.task))
        with frozen(trial, task.config.task.freeze):
            own = _train_step(task, trial, batch)
        remarks += state_remarks(task.task, before)
        remarks += optimizer_remarks(task.task) if own is not None else ()
    return DryRun(metric=metric, remarks=remarks)


def dry_run_others(task: LoadedTask, model: nn.Module) -> None:
    """Run test examples, and the largest ids of tokens, through network and loss.

    Their outputs are dropped: test examples are for the final figures only.

    Raises:
        ConfigError: If the network or a metric does not take them.
        DataError: If they cannot be read, or the targets do not fit the loss.
    """
    batches = [(task.test.batch(_first(task.test)), " of the test data")]
    for examples in (task.sample, task.test):
        batches += [(examples.batch(place), "") for place in _largest_id(examples)]
    for batch, when in batches:
        with _sealed(task.config.run.seed), torch.no_grad():
            trial = lay_out(_copy(model), batch.inputs).eval()
            outputs = _outputs(task, trial, batch, when)
            _losses(task, outputs, batch, when)
            _headline(task, outputs, batch)


def _largest_id(examples: Examples) -> Iterator[Indices]:
    """Yield places with the largest id, of examples whose inputs are ids in an array.

    It may lie beyond an embedding, which the first examples do not show.
    """
    if isinstance(examples, ArrayExamples) and examples.inputs.dtype == np.int64:
        rows = examples.inputs.reshape(len(examples), -1)
        places = _first(examples)
        places[-1] = max(places[-1], rows.max(axis=1).argmax())
        yield places


def _check_draws(task: LoadedTask, model: nn.Module, batch: Batch) -> None:
    """Refuse a network whose training draws from a generator that is not seeded.

    Raises:
        ConfigError: If two runs in train mode from the same seed differ.
    """
    found = []
    for _ in range(2):
        with _sealed(task.config.run.seed), torch.no_grad():
            trial = _copy(model).train()
            if batch.size < 2:  # noqa: PLR2004 - no spread in one
                for _, module in norm_modules(trial):
                    module.eval()
            found.append(_outputs(task, trial, batch, " in train mode"))
    if all(map(_is_close, *map(tensors_in, found))):
        return
    msg = (
        "the network gives two answers in train mode from the same seed: it draws from "
    )
    msg += (
        "a generator of its own, or keeps state outside of its buffers; want draws of "
    )
    msg += "torch, numpy.random or random, which every client's round seeds"
    raise ConfigError(msg)


def check_steady(task: LoadedTask, model: nn.Module, batch: Batch) -> None:
    """Refuse a network that is random in eval mode: its cuts cannot be checked.

    Raises:
        ConfigError: If two runs on the same inputs differ.
    """
    with _sealed(task.config.run.seed), torch.no_grad():
        trial = lay_out(_copy(model), batch.inputs).eval()
        one, two = (_outputs(task, trial, batch, "") for _ in range(2))
    pairs = zip(tensors_in(one), tensors_in(two), strict=True)
    if not all(_is_close(a, b) for a, b in pairs):
        msg = (
            "the network gives two answers for the same inputs in eval mode: it draws "
            "random numbers there; want F.dropout(..., training=self.training), or "
            "nn.Dropout"
        )
        raise ConfigError(msg)


def dry_run_cut(
    task: LoadedTask, model: nn.Module, batch: Batch, structure: Structure
) -> None:
    """Take one step of training with half of the units of each group cut, on a copy.

    Raises:
        StructureError: If the network does not train once it is cut.
    """
    with _sealed(task.config.run.seed):
        keep = half_mask(structure, task.config.run.seed)
        cut = lay_out(apply_plan(_copy(model), structure, keep), batch.inputs)
        try:
            with frozen(cut, task.config.task.freeze):
                _train_step(task, cut, batch)
        except ConfigError as error:
            msg = f"when half of its channels are cut, {error}; code that runs in"
            msg += " training only must support fewer channels too"
            raise StructureError(msg) from error


def _sealed(seed: int) -> AbstractContextManager[None]:
    """Run a block on its own random stream and restore every global generator."""
    return seed_globals(seed, 0, "dry run", Use.DROPOUT)


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except (Exception, SystemExit) as error:
        msg = f"the network cannot be copied: {first_line(error, kind=True)}"
        raise ConfigError(msg) from error


def _outputs(task: LoadedTask, model: nn.Module, batch: Batch, when: str) -> Any:  # noqa: ANN401 - of the network
    """Return the outputs of a network for a batch, checked against the task."""
    try:
        outputs = run_network(model, batch.inputs)
    except StructureError as error:
        msg = f"the network does not take the inputs of the data{when}: {error}"
        raise ConfigError(msg) from error
    except FedPruneError:
        raise
    except (Exception, SystemExit) as error:
        # The network's own code may raise anything.
        msg = f"the network does not run on {shapes(batch.inputs)}{when}: "
        msg += f"{first_line(error, kind=True)}{hint(batch.inputs, error)}"
        raise ConfigError(msg) from error
    if not task.task.has_own_loss:
        check_outputs(task, logits_of(outputs), batch, when)
    return outputs


def _losses(task: LoadedTask, outputs: object, batch: Batch, when: str) -> Tensor:
    """Return the loss of each example; the task's own code may raise anything."""
    try:
        found = task.loss(outputs, batch)
    except FedPruneError:
        raise
    except (Exception, SystemExit) as error:
        name = "loss" if task.task.has_own_loss else f"loss '{task.config.task.loss}'"
        msg = f"the {name} fails on {shapes(outputs)} and targets of "
        msg += f"{shapes(batch.targets)}{when}: {first_line(error, kind=True)}"
        raise ConfigError(msg) from error
    _check_inputs(batch, when)
    return found


def _check_inputs(batch: Batch, when: str) -> None:
    """Refuse inputs that are not finite: training on them ends every client."""
    for part in tensors_in(batch.inputs):
        if part.is_floating_point() and not bool(torch.isfinite(part).all()):
            msg = f"a batch of the inputs{when} has a value that is not finite; replace"
            msg += " such values, or leave their examples out"
            raise DataError(msg)


def _headline(task: LoadedTask, outputs: object, batch: Batch) -> str:
    """Return the name of the first metric; a task's own code may raise anything."""
    try:
        found = task.metrics(outputs, batch)
        if task.task.has_own_metrics and all(map(_is_finite, tensors_in(outputs))):
            counts = counted(task, batch)
            check_finite(task.task, {k: chosen(x, counts) for k, x in found.items()})
        return next(iter(found))
    except FedPruneError:
        raise
    except (Exception, SystemExit) as error:
        name = type(task.task).__name__
        msg = f"{name}.metrics failed: {first_line(error, kind=True)}"
        raise ConfigError(msg) from error


def _train_step(
    task: LoadedTask, model: nn.Module, batch: Batch
) -> torch.optim.Optimizer | None:
    """Take one step of training, as clients do; return the task's own optimiser."""
    model.train()
    if batch.size < 2:  # noqa: PLR2004 - no spread in one
        for _, module in norm_modules(model):
            module.eval()
    batch = _augmented(task, batch)
    with autocast(model, task.config.client.precision):
        outputs = _outputs(task, model, batch, " in train mode")
        loss = _losses(task, outputs, batch, " in train mode").mean()
    if not loss.requires_grad:
        msg = (
            "the loss does not depend on any weight that is trained: forward must not "
            "detach its outputs or run under no_grad, and some requires_grad must be on"
        )
        raise ConfigError(msg)
    try:
        loss.backward()  # type: ignore[no-untyped-call]
        trained = [weight for weight in model.parameters() if weight.requires_grad]
    except (Exception, SystemExit) as error:
        # The network may have backward code of its own.
        msg = f"the network cannot be trained: {first_line(error, kind=True)}"
        raise ConfigError(msg) from error
    own = task.optimizer(trained, _RATE)
    if own is not None:
        check_optimizer(task.task, own, trained)
    try:
        (own or torch.optim.SGD(trained, lr=_RATE)).step()
    except (Exception, SystemExit) as error:
        msg = f"a step of {type(own).__name__} failed: {first_line(error, kind=True)}; "
        msg += "want an optimiser whose step() takes no argument"
        raise ConfigError(msg) from error
    return own


def _augmented(task: LoadedTask, batch: Batch) -> Batch:
    """Return the batch as training sees it; a task's own code may raise anything.

    Raises:
        ConfigError: If it fails, or gives another batch in a second call.
    """
    seed = task.config.run.seed
    # A batch is a fresh copy in a run, and augment may change it in place.
    given = pytree.tree_map_only(Tensor, Tensor.clone, tuple(batch))
    try:
        with _sealed(seed):
            found = task.augmented(batch, torch.Generator().manual_seed(seed))
        with _sealed(seed):
            draws = torch.Generator().manual_seed(seed)
            again = task.augmented(Batch(*given), draws)
    except FedPruneError:
        raise
    except (Exception, SystemExit) as error:
        name = type(task.task).__name__
        msg = f"{name}.augment failed: {first_line(error, kind=True)}"
        raise ConfigError(msg) from error
    if all(map(_is_equal, tensors_in(tuple(found)), tensors_in(tuple(again)))):
        return found
    msg = (
        f"two calls of {type(task.task).__name__}.augment with the same generator give "
    )
    msg += (
        "different batches: want random numbers from the generator alone, and nothing "
    )
    msg += "that is kept between calls"
    raise ConfigError(msg)


def _is_equal(one: Tensor, two: Tensor) -> bool:
    same = one.shape == two.shape
    return same and torch.allclose(one.float(), two.float(), equal_nan=True)


def _is_close(one: Tensor, two: Tensor) -> bool:
    """Return True if two outputs of a network are equal but for rounding."""
    return torch.allclose(one, two, rtol=_SAME, atol=_SAME, equal_nan=True)


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _remarks(task: LoadedTask, outputs: object, batch: Batch) -> tuple[str, ...]:
    """Return lines about valid but unusual outputs, losses and labels."""
    found = together_remarks(task.task, outputs, batch)
    found += ignored_remarks(task.task, batch)
    if task.task.has_own_data:
        found += label_remarks(task.task, task.sample, batch)
    return found + _output_remarks(task, outputs)


def _output_remarks(task: LoadedTask, outputs: object) -> tuple[str, ...]:
    """Return lines about outputs that have no class or look like probabilities."""
    if task.task.has_own_loss or task.config.task.loss != "cross-entropy":
        return ()
    logits = logits_of(outputs)
    width, classes = logits.shape[-1], task.num_outputs
    if width < 2:  # noqa: PLR2004
        return ()
    spare: tuple[str, ...] = ()
    if width > classes > 0:
        spare = (f"the network gives {width} outputs for {classes} classes",)
    sums = logits.float().sum(dim=1)
    if bool((logits >= 0).all()) and bool(((sums - 1).abs() < _SUM).all()):
        text = "the network's outputs look like probabilities; cross-entropy takes"
        return (*spare, f"{text} logits: leave its last softmax out")
    return spare
