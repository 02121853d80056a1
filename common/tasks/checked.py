"""Checks of what the methods of a user's own task return."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fedprune.common.data.examples import IGNORED, Batch, Examples, Targets
from fedprune.common.errors import ConfigError, DataError, FedPruneError
from fedprune.common.tasks.losses import POSITIONS
from fedprune.common.tasks.task import Task, as_labels
from fedprune.common.text import first_line

_NAMED = 4  # labels that a message shows
_OF_OPTIMISER = ("optimizer", "momentum", "weight_decay")  # keys of [client]
_SAME = 1e-4  # largest difference of the loss of one example in two batches


def checked_batch(task: Task, items: Sequence[object]) -> Batch:
    """Return a batch of items of map-style data, by the task's ``collate``.

    Raises:
        DataError: If it fails, or does not return a batch with a row for each item.
    """
    name = f"{type(task).__name__}.collate"
    try:
        found: object = task.collate(items)
    except FedPruneError:
        raise
    except (Exception, SystemExit) as error:
        # A user's code may raise anything.
        msg = f"{name} failed: {first_line(error, kind=True)}"
        raise DataError(msg) from error
    if not isinstance(found, Batch):
        msg = f"{name} returns a {type(found).__name__}; want a fedprune.Batch"
        raise DataError(msg)
    if found.size != len(items):
        # Sums over examples are divided by the number of items.
        msg = f"{name} makes a batch of {found.size} of {len(items)} items; want a row "
        msg += "for each item, in the first tensor of the inputs too"
        raise DataError(msg)
    return found


def checked_labels(task: Task, found: object, count: int) -> Targets | None:
    """Return what the ``labels`` of a task give for ``count`` examples, as an array.

    Raises:
        DataError: If it is no number for each example.
    """
    labels = as_labels(found, count)
    if labels is None and found is not None:
        msg = f"{type(task).__name__}.labels returns a {type(found).__name__}; want an "
        msg += f"integer class or a value for each of the {count} examples, or None"
        raise DataError(msg)
    return labels


def check_for_each(task: Task, found: object, batch: Batch, what: str) -> None:
    """Check that a loss or a metric is one number for each example of a batch.

    Raises:
        ConfigError: If it is anything else.
    """
    if isinstance(found, Tensor) and tuple(found.shape) == (batch.size,):
        return
    shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
    msg = f"the {what} of {type(task).__name__} is {shape} for {batch.size} "
    msg += f"examples; want one number for each example, [{batch.size}]"
    raise ConfigError(msg)


def check_finite(task: Task, metrics: Mapping[str, Tensor]) -> None:
    """Check that the metrics of a new network are finite: one NaN hides every mean.

    Raises:
        ConfigError: If one is not.
    """
    for name, values in metrics.items():
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            msg = (
                f"the metric '{name}' of {type(task).__name__} is not finite for {bad}"
            )
            msg += (
                f" of {len(values)} examples, so no mean of it is; want a number for "
            )
            msg += "each"
            raise ConfigError(msg)


def together_remarks(task: Task, outputs: object, batch: Batch) -> tuple[str, ...]:
    """Return a line for an own loss or metric that mixes the examples of a batch.

    A mean over the batch, repeated for each example, or ``[n, 1]`` minus ``[n]`` has
    the right shape and the wrong numbers.  A loss may mean it (pairs of examples).

    Args:
        task: The task.
        outputs: Outputs of the network for the batch.
        batch: At least two examples, or nothing is compared.
    """
    half = batch.size // 2
    if half == 0:
        return ()
    rows = slice(half)
    some = Batch(outputs, None).rows(rows).inputs
    if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(some)):
        return ()  # outputs of a kind that cannot be taken apart
    try:
        whole = _for_each(task, outputs, batch)
        alone = _for_each(task, some, batch.rows(rows))
    except (Exception, SystemExit):
        # A user's loss may need the whole batch; that it works on it was tried before.
        return ()
    mixed = [
        name
        for name, values in alone.items()
        if name in whole and not _equal(values, whole[name][rows])
    ]
    if not mixed:
        return ()
    text = f"the {mixed[0]} of {type(task).__name__} gives an example another number in"
    text += " another batch: it mixes the examples, so figures depend on the batches; "
    return (text + "if that is not meant: no mean over the batch, no [n, 1] with [n]",)


def _for_each(task: Task, outputs: object, batch: Batch) -> dict[str, Tensor]:
    """Return name -> values of the own loss and the own metrics of each example."""
    found = {"loss": task.loss(outputs, batch)} if task.has_own_loss else {}
    if task.has_own_metrics:
        own = task.metrics(outputs, batch)
        found |= {f"metric '{name}'": values for name, values in own.items()}
    return found


def _equal(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and torch.allclose(
        one.float(), two.float(), rtol=_SAME, atol=_SAME, equal_nan=True
    )


def label_remarks(task: Task, sample: Examples, batch: Batch) -> tuple[str, ...]:
    """Return a line if the labels of map-style data are not those of its batches.

    Args:
        task: The task.
        sample: Training examples.
        batch: The first of them.
    """
    labels, targets = sample.targets, batch.targets
    if labels is None or not isinstance(targets, Tensor):
        return ()
    named = torch.from_numpy(labels[: batch.size])
    if named.shape != targets.shape or bool((named == targets.cpu()).all()):
        return ()
    if named.is_floating_point() or targets.is_floating_point():
        return ()
    text = f"the labels of {type(task).__name__} begin with {_shown(named)}, and the "
    text += (
        f"targets of its batches with {_shown(targets)}: partitions and even samples"
    )
    return (text + " go by the labels; want Task.labels in the order of the data",)


def ignored_remarks(task: Task, batch: Batch) -> tuple[str, ...]:
    """Return a line if examples of a loss by position have no target that counts."""
    targets = batch.targets
    if task.has_own_loss or task.built_in.name not in POSITIONS:
        return ()
    without = int((targets == IGNORED).flatten(1).all(dim=1).sum())
    if not without:
        return ()
    text = f"{without} of the first {batch.size} training examples have no target that "
    text += f"counts (all are {IGNORED}): they are part of no mean and of no client's "
    return (text + "weight",)


def optimizer_remarks(task: Task) -> tuple[str, ...]:
    """Return a line if a task's own optimiser replaces one that is configured."""
    client, usual = task.config.client, type(task.config.client)()
    keys = [k for k in _OF_OPTIMISER if getattr(client, k) != getattr(usual, k)]
    if not keys:
        return ()
    named = " and ".join(f"client.{key}" for key in keys)
    text = f"{named} has no effect: {type(task).__name__}.optimizer makes the optimiser"
    return (f"{text}; leave one of the two out",)


def state_remarks(task: Task, before: Mapping[str, object]) -> tuple[str, ...]:
    """Return a line if a step of training has set attributes of an own task.

    Args:
        task: The task after the step.
        before: Its attributes before it.
    """
    kept = [name for name in _kept(task) if vars(task)[name] is not before.get(name)]
    if not kept:
        return ()
    text = f"a step of training sets {type(task).__name__}.{kept[0]}: what the object "
    text += "keeps passes from client to client of one process only, so results depend "
    return (text + "on run.engine and run.workers, and are lost with a resume",)


def _kept(task: Task) -> list[str]:
    """Return the names of a task's attributes without those that are worked out."""
    return [
        name
        for name in vars(task)
        if not isinstance(getattr(type(task), name, None), cached_property)
    ]


def _shown(values: Tensor) -> str:
    return ", ".join(str(x) for x in values.flatten()[:_NAMED].tolist())


def check_optimizer(
    task: Task, own: torch.optim.Optimizer, trained: Sequence[Tensor]
) -> None:
    """Check that an own optimiser has weights that are trained, and no others.

    Raises:
        ConfigError: If it has none of them, or others.
    """
    given = {id(weight) for weight in trained}
    held = [weight for group in own.param_groups for weight in group["params"]]
    if held and all(id(weight) in given for weight in held):
        return
    msg = f"{type(task).__name__}.optimizer moves other weights than those that it is "
    msg += "given; want an optimiser of the argument 'parameters'"
    raise ConfigError(msg)
