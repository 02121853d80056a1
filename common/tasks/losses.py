"""Losses and metrics of ``task.loss``: each gives one number for each example."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fedprune.common.data.examples import IGNORED
from fedprune.common.errors import ConfigError

POSITIONS = ("per-pixel", "next-token")  # losses with a target for each position
ForEach = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A loss with its metrics and its distance of two outputs.

    Attributes:
        name: As in ``task.loss``.
        for_each: (outputs, targets) -> loss of each example, float32[n].
        metrics: Name -> (outputs, targets) -> metric of each example, float[n]; the
            first is the headline.
        classes_dim: Dimension of the outputs that holds the classes; None = they are
            values or independent labels.
        targets: The targets that it takes, for messages.
    """

    name: str
    for_each: ForEach
    metrics: Mapping[str, ForEach]
    classes_dim: int | None
    targets: str


def logits_of(outputs: object) -> Tensor:
    """Return the tensor of outputs that a built-in loss compares with the targets.

    Args:
        outputs: A tensor of floats, or a mapping with one under "logits".

    Raises:
        ConfigError: If it is anything else.
    """
    found: Any = outputs
    if isinstance(outputs, Mapping) and "logits" in outputs:
        found = outputs["logits"]
    if isinstance(found, Tensor) and found.is_floating_point():
        return found
    msg = f"the network returns a {described(found)}; want one tensor of floats: let "
    msg += "forward return the outputs alone, or a dict with 'logits', or override "
    msg += "Task.loss"
    raise ConfigError(msg)


def described(found: object) -> str:
    """Return the kind of a network's result, for a message."""
    kind = type(found).__name__
    if isinstance(found, Tensor):
        return f"tensor of {str(found.dtype).removeprefix('torch.')}"
    if isinstance(found, Mapping):
        return f"{kind} with {', '.join(map(str, found))}"
    return f"{kind} of {len(found)}" if isinstance(found, tuple | list) else kind


def distance(
    loss: Loss | None,
    outputs: Tensor,
    teacher: Tensor,
    temperature: float,
    counts: Tensor | None = None,
) -> Tensor:
    """Return the distillation loss, a scalar: the distance to the teacher's outputs.

    With classes ``T^2 * KL(softmax(teacher / T) || softmax(outputs / T))``, the mean
    over the positions (Hinton et al. 2015, arXiv:1503.02531); otherwise, also for a
    loss of a user's own, the mean squared difference.

    Args:
        loss: The built-in loss, or None.
        outputs: Outputs of the network.
        teacher: Outputs of the teacher, of the same shape.
        temperature: > 0.
        counts: Which targets count, bool in the shape of the targets; None = all.
    """
    dim = None if loss is None else loss.classes_dim
    if dim is None:
        return functional.mse_loss(outputs, teacher)
    if counts is not None and outputs.dim() == 2:  # noqa: PLR2004 - [n, classes]
        outputs, teacher = outputs[counts], teacher[counts]
    divergence = functional.kl_div(
        functional.log_softmax(outputs / temperature, dim=dim),
        functional.log_softmax(teacher / temperature, dim=dim),
        reduction="batchmean" if outputs.dim() == 2 else "none",  # noqa: PLR2004
        log_target=True,
    )
    if outputs.dim() > 2:  # noqa: PLR2004 - a distribution at every position
        divergence = divergence.sum(dim=dim)
        divergence = (divergence if counts is None else divergence[counts]).mean()
    return divergence * temperature**2


def _classes(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none")


def _right_class(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(dim=1) == targets).float()


def _positions(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss over the positions that count, classes in dimension 1."""
    found = functional.cross_entropy(
        outputs, targets, reduction="none", ignore_index=IGNORED
    )
    return _mean_where(found, targets != IGNORED)


def _right_positions(outputs: Tensor, targets: Tensor) -> Tensor:
    return _mean_where((outputs.argmax(dim=1) == targets).float(), targets != IGNORED)


def _mean_where(values: Tensor, counts: Tensor) -> Tensor:
    """Return the mean of each example's values that count; 0 where none does."""
    weights = counts.flatten(1).to(values.dtype)
    total = (values.flatten(1) * weights).sum(dim=1)
    return total / weights.sum(dim=1).clamp(min=1.0)


def _iou(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean intersection over union of each example's classes.

    Of the classes that occur in the example's targets or its outputs.
    """
    count = outputs.shape[1]
    valid = (targets != IGNORED).flatten(1)
    found = outputs.argmax(dim=1).flatten(1)
    wanted = targets.flatten(1)
    shares = []
    for number in range(count):
        one, two = (found == number) & valid, (wanted == number) & valid
        union = (one | two).sum(dim=1)
        both = (one & two).sum(dim=1).float()
        shares.append(torch.where(union > 0, both / union.clamp(min=1), torch.nan))
    return torch.stack(shares, dim=1).nanmean(dim=1).nan_to_num(1.0)


def _tokens(outputs: Tensor, targets: Tensor) -> Tensor:
    return _positions(outputs.movedim(-1, 1), targets)


def _right_tokens(outputs: Tensor, targets: Tensor) -> Tensor:
    return _right_positions(outputs.movedim(-1, 1), targets)


def _labels(outputs: Tensor, targets: Tensor) -> Tensor:
    found = functional.binary_cross_entropy_with_logits(
        outputs, targets.to(outputs.dtype), reduction="none"
    )
    return found.flatten(1).mean(dim=1)


def _right_labels(outputs: Tensor, targets: Tensor) -> Tensor:
    right = (outputs > 0) == (targets > 0.5)  # noqa: PLR2004 - the middle
    return right.float().flatten(1).mean(dim=1)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of each example's values, float32[n].

    Raises:
        ConfigError: If the outputs are not as many as the targets.
    """
    # Single values may have shape [batch] or [batch, 1] on either side, which
    # broadcasting would make [batch, batch].
    found, wanted = _rows(outputs), _rows(targets)
    if found.shape != wanted.shape:
        msg = (
            f"the network gives {found.shape[1]} values for each example; the "
            f"targets have {wanted.shape[1]}: want as many"
        )
        raise ConfigError(msg)
    return ((found - wanted) ** 2).mean(dim=1)


def _rows(values: Tensor) -> Tensor:
    """Return one row for each example, [batch, values]."""
    return values[:, None] if values.dim() == 1 else values.flatten(1)


LOSSES: Mapping[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss(
            name="cross-entropy",
            for_each=_classes,
            metrics={"accuracy": _right_class},
            classes_dim=1,
            targets="integer classes [n]",
        ),
        Loss(
            name="bce",
            for_each=_labels,
            metrics={"accuracy": _right_labels},
            classes_dim=None,
            targets="0 or 1 for each label [n, labels]",
        ),
        Loss(
            name="mse",
            for_each=squared_error,
            metrics={},  # R squared needs the spread of the test targets
            classes_dim=None,
            targets="floating values [n, k]",
        ),
        Loss(
            name="per-pixel",
            for_each=_positions,
            metrics={"iou": _iou, "accuracy": _right_positions},
            classes_dim=1,
            targets="an integer class for each position [n, height, width]",
        ),
        Loss(
            name="next-token",
            for_each=_tokens,
            metrics={"accuracy": _right_tokens},
            classes_dim=-1,
            targets="the integer token that follows each position [n, length]",
        ),
    )
}
