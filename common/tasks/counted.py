"""Examples and positions whose targets count: every mean is taken over these alone.

A target of ``IGNORED`` (-100) does not count under a built-in loss of classes, and an
example without any that counts is part of no mean: its loss of 0 would be a lower loss,
and an accuracy of 0 a worse network.  Under an own loss every example counts.
"""

from typing import Any

import torch
from torch import Tensor

from fedprune.common.data.examples import IGNORED, Batch
from fedprune.common.models.inputs import tensors_in
from fedprune.common.models.training import at_least_float32
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.tasks.losses import distance, logits_of


def counted(task: LoadedTask, batch: Batch) -> Tensor | None:
    """Return which examples have a target that counts, bool[b]; None = all of them."""
    places = _places(task, batch)
    if places is None or places.dim() == 1:
        return places
    found = places.flatten(1).any(dim=1)
    return None if bool(found.all()) else found


def number_of(counts: Tensor | None, batch: Batch) -> int:
    """Return the number of examples of a batch that count."""
    return batch.size if counts is None else int(counts.sum())


def chosen(values: Tensor, counts: Tensor | None) -> Tensor:
    """Return the values of the examples that count, of values of all examples [b]."""
    return values if counts is None else values[counts.to(values.device)]


def teacher_distance(
    task: LoadedTask,
    outputs: Any,  # noqa: ANN401 - of the network
    teacher: Any,  # noqa: ANN401 - of the network
    batch: Batch,
    temperature: float,
) -> Tensor:
    """Return the distillation loss, a scalar: the distance to a teacher's outputs.

    Under a built-in loss of the tensor that it compares, at the positions that count;
    under an own loss the mean over the tensors of floats.

    Args:
        task: Has the loss.
        outputs: Outputs of the network for the batch.
        teacher: Outputs of the teacher for it.
        batch: The examples; one of them counts at least.
        temperature: > 0.
    """
    own = task.task
    if not own.has_own_loss:
        one, two = map(at_least_float32, (logits_of(outputs), logits_of(teacher)))
        return distance(own.built_in, one, two, temperature, _places(task, batch))
    pairs = zip(tensors_in(outputs), tensors_in(teacher), strict=True)
    parts = [
        distance(None, at_least_float32(one), at_least_float32(two), temperature)
        for one, two in pairs
        if one.is_floating_point()
    ]
    return torch.stack(parts).mean()


def _places(task: LoadedTask, batch: Batch) -> Tensor | None:
    """Return which targets count, bool of their shape; None = all of them."""
    own, targets = task.task, batch.targets
    if own.has_own_loss or own.built_in.classes_dim is None:
        return None
    if not isinstance(targets, Tensor) or targets.is_floating_point():
        return None
    found = targets != IGNORED
    return None if bool(found.all()) else found
