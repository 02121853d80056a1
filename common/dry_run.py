"""Dry run: one batch through local training, before a run or a device starts.

Data, network, loss and metric are tested together: a mismatch is reported before the
start in one line, and not by every client of the first round.  The dry run works on
copies and on its own random stream, so it does not change the results of the run.
"""

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from fedprune.common.data.examples import Batch
from fedprune.common.errors import ConfigError, DataError, FedPruneError, StructureError
from fedprune.common.models.flat import norm_modules
from fedprune.common.models.layout import lay_out
from fedprune.common.models.training import at_least_float32, autocast, frozen
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import half_mask
from fedprune.common.seeding import Use, seed_torch
from fedprune.common.structure.structure import Structure
from fedprune.common.task import Task
from fedprune.common.text import first_line

_EXAMPLES = 8
_RATE = 1e-3  # of the one step, whose weights are discarded
_SAME = 1e-4  # largest difference of two runs of one network
_SUM = 1e-4  # largest difference from 1 of a sum of probabilities in bfloat16


def first_batch(task: Task) -> Batch:
    """Return the first training examples of a task."""
    count = min(_EXAMPLES, len(task.dataset.train))
    return task.dataset.train.batch(np.arange(count))


def declared_batch(task: Task) -> Batch:
    """Return a batch of zeros of the shape that a task declares: a server has no data.

    Without ``task.outputs`` or ``task.input_shape`` the first training examples.
    """
    chosen = task.config.task
    if not chosen.outputs or not chosen.input_shape:
        return first_batch(task)
    inputs = task.example()
    targets = torch.zeros(len(inputs), dtype=torch.int64)
    if chosen.loss == "mse":
        targets = torch.zeros(len(inputs), chosen.outputs)
    return Batch(inputs=inputs, targets=targets)


def check_data(task: Task) -> tuple[str, ...]:
    """Check that the data agree with the configuration.

    Returns:
        One line for each valid but unusual property.

    Raises:
        DataError: If inputs have another shape than declared, or targets are not of
            the type that the loss needs.
    """
    declared, found = task.config.task.input_shape, task.dataset.input_shape
    if declared and tuple(declared) != tuple(found):
        msg = (
            f"the data's inputs have shape {list(found)}; task.input_shape is "
            f"{list(declared)}: leave it out, or give that of the data"
        )
        raise DataError(msg)
    targets = task.dataset.train.targets
    if task.regression:
        return ()
    if targets.dtype.kind == "f":
        raise DataError(_not_classes(task))
    _check_first_class(task)
    if targets.size and targets.min() == targets.max():
        return (f"all training examples are of class {targets[0]}",)
    return ()


def _not_classes(task: Task) -> str:
    """Return the message about floating targets under cross-entropy."""
    targets = task.dataset.train.targets.reshape(len(task.dataset.train), -1)
    width = targets.shape[1]
    one_hot = width > 1 and bool(np.isin(targets, (0, 1)).all())
    if one_hot and bool((targets.sum(axis=1) == 1).all()):
        return (
            f"the targets are one-hot rows of {width}; give integer classes "
            "(targets.argmax(axis=1)), or set task.loss = 'mse'"
        )
    return (
        "the targets are floats and task.loss is 'cross-entropy'; give integer "
        "classes, or set task.loss = 'mse'"
    )


def _check_first_class(task: Task) -> None:
    """Refuse classes that are counted from 1, unless their number is declared."""
    parts = (task.dataset.train.targets, task.dataset.test.targets)
    lowest = min(int(part.min()) for part in parts if part.size)
    if lowest > 0 and not task.config.task.outputs:
        highest = max(int(part.max()) for part in parts if part.size)
        msg = (
            f"the classes run from {lowest} to {highest}; count them from 0, or set "
            f"task.outputs = {task.dataset.num_outputs} if no example has those below"
        )
        raise DataError(msg)


def dry_run(task: Task, model: nn.Module, batch: Batch) -> tuple[str, ...]:
    """Run a batch through network, loss, metric and one step of training.

    Args:
        task: Loss and metric.
        model: The dense network; not changed.
        batch: Examples of the task.

    Returns:
        One line for each valid but unusual property.

    Raises:
        ConfigError: If the network does not fit the task.
        DataError: If the targets do not fit the loss.
    """
    with _sealed(task.config.run.seed):
        trial = lay_out(_copy(model), batch.inputs)
        trial.eval()
        with torch.no_grad():
            outputs = _outputs(task, trial, batch, "")
            task.correct(outputs, batch.targets)
        with frozen(trial, task.config.task.freeze):
            _train_step(task, trial, batch)
    return _remarks(task, outputs)


def check_steady(task: Task, model: nn.Module, batch: Batch) -> None:
    """Refuse a network that is random in eval mode: its cuts cannot be checked.

    Raises:
        ConfigError: If two runs on the same inputs differ.
    """
    with _sealed(task.config.run.seed), torch.no_grad():
        trial = lay_out(_copy(model), batch.inputs).eval()
        one, two = (_outputs(task, trial, batch, "") for _ in range(2))
    if not torch.allclose(one, two, rtol=_SAME, atol=_SAME, equal_nan=True):
        msg = (
            "the network gives two answers for the same inputs in eval mode: it draws "
            "random numbers there; want F.dropout(..., training=self.training), or "
            "nn.Dropout"
        )
        raise ConfigError(msg)


def dry_run_cut(
    task: Task, model: nn.Module, batch: Batch, structure: Structure
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


@contextmanager
def _sealed(seed: int) -> Iterator[None]:
    """Run a block on its own random stream and restore every global generator."""
    # The network's own code may use any of them.
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with seed_torch(seed, 0, "dry run", Use.DROPOUT):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)  # noqa: NPY002


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except (Exception, SystemExit) as error:
        msg = f"the network cannot be copied: {first_line(error, kind=True)}"
        raise ConfigError(msg) from error


def _outputs(task: Task, model: nn.Module, batch: Batch, when: str) -> Tensor:
    """Return the outputs of a network for a batch, checked against the task."""
    try:
        found: object = model(batch.inputs)
    except FedPruneError:
        raise
    except (Exception, SystemExit) as error:
        # The network's own code may raise anything.
        shape = list(batch.inputs.shape)
        msg = f"the network does not run on a batch of shape {shape}{when}: "
        raise ConfigError(msg + first_line(error, kind=True)) from error
    outputs = _tensor(found, when)
    _check_shape(task, outputs, batch, when)
    return outputs


def _tensor(found: object, when: str) -> Tensor:
    if isinstance(found, Tensor) and found.is_floating_point():
        return found
    kind = type(found).__name__
    if isinstance(found, Tensor):
        kind = f"tensor of {str(found.dtype).removeprefix('torch.')}"
    if isinstance(found, Mapping):
        kind += f" with {', '.join(map(str, found))}"
    elif isinstance(found, tuple | list):
        kind += f" of {len(found)}"
    msg = (
        f"the network returns a {kind}{when}; want one tensor of floats: let forward "
        "return the outputs alone"
    )
    raise ConfigError(msg)


def _check_shape(task: Task, outputs: Tensor, batch: Batch, when: str) -> None:
    """Refuse outputs that the loss cannot compare with the targets."""
    count = len(batch.targets)
    whole = outputs.dim() > 0 and len(outputs) == count
    shape = f"the network gives {list(outputs.shape)} for {count} examples{when}"
    if task.regression:
        _check_values(outputs, batch, shape, whole=whole)
        return
    classes = task.num_outputs
    width = outputs.shape[1] if outputs.dim() > 1 else 1
    if not whole or outputs.dim() > 2:  # noqa: PLR2004 - [batch, classes]
        msg = f"{shape}; want [{count}, {classes}]: an output for each class"
        raise ConfigError(msg)
    if outputs.dim() == 1 or width < classes:
        outs = "1 output" if width == 1 else f"{width} outputs"
        msg = (
            f"the network gives {outs} for each example{when}, and the classes are 0 "
            f"to {classes - 1}: want {classes}, an output for each class"
        )
        raise ConfigError(msg)


def _check_values(outputs: Tensor, batch: Batch, shape: str, *, whole: bool) -> None:
    """Refuse outputs that are not as many as the values of the targets."""
    count = len(batch.targets)
    wanted = batch.targets[0].numel()
    if whole and outputs[0].numel() == wanted:
        return
    if not batch.targets.is_floating_point():
        msg = (
            f"{shape}, and the targets are integers: task.loss is 'mse'; want "
            "'cross-entropy' for classes, or floating targets [n, k]"
        )
        raise DataError(msg)
    msg = f"{shape}; the targets have {wanted} for each: want [{count}, {wanted}]"
    raise ConfigError(msg)


def _train_step(task: Task, model: nn.Module, batch: Batch) -> None:
    """Take one step of training, as clients do."""
    model.train()
    if len(batch.targets) < 2:  # noqa: PLR2004 - no spread in one
        for _, module in norm_modules(model):
            module.eval()
    with autocast(model, task.config.client.precision):
        outputs = _outputs(task, model, batch, " in train mode")
        losses = task.loss(outputs, batch)
    loss = at_least_float32(losses).mean()
    if not loss.requires_grad:
        msg = (
            "the loss does not depend on any weight that is trained: forward must not "
            "detach its outputs or run under no_grad, and some requires_grad must be on"
        )
        raise ConfigError(msg)
    try:
        loss.backward()  # type: ignore[no-untyped-call]
        torch.optim.SGD(model.parameters(), lr=_RATE).step()
    except (Exception, SystemExit) as error:
        # The network may have backward code of its own.
        msg = f"the network cannot be trained: {first_line(error, kind=True)}"
        raise ConfigError(msg) from error


def _remarks(task: Task, outputs: Tensor) -> tuple[str, ...]:
    """Return lines about outputs that have no class or look like probabilities."""
    width, classes = outputs.shape[-1], task.num_outputs
    if task.regression or width < 2:  # noqa: PLR2004
        return ()
    spare: tuple[str, ...] = ()
    if width > classes:
        spare = (f"the network gives {width} outputs for {classes} classes",)
    sums = outputs.float().sum(dim=1)
    if bool((outputs >= 0).all()) and bool(((sums - 1).abs() < _SUM).all()):
        text = "the network's outputs look like probabilities; cross-entropy takes"
        return (*spare, f"{text} logits: leave its last softmax out")
    return spare
