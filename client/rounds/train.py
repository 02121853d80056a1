"""Local training: proximal steps, distillation, frozen modules and statistics."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedprune.client.rounds.mask import MaskedWeights
from fedprune.client.rounds.steps.clipping import clip_gradients
from fedprune.client.rounds.steps.optimizers import Steps, build_optimizer
from fedprune.client.rounds.steps.proximal import proximal_term
from fedprune.client.rounds.steps.quantisers import Quantiser
from fedprune.common.data.examples import Batch, Examples
from fedprune.common.messages import TrainSettings
from fedprune.common.models.flat import norm_modules
from fedprune.common.models.training import autocast, frozen, is_inside
from fedprune.common.sparsity.gates import ChannelGates
from fedprune.common.sparsity.penalty import DualSteps, Penalty
from fedprune.common.spec import Indices, Mask
from fedprune.common.system.device import device_of, wide, wide_type
from fedprune.common.tasks.counted import chosen, number_of, teacher_distance
from fedprune.common.tasks.counted import counted as counted_of
from fedprune.common.tasks.loaded import LoadedTask, run_network


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTraining:
    """Data, loss and settings of one local training.

    Attributes:
        examples: Training examples, at least one.
        task: Has the loss.
        settings: Epochs, batch size, learning rate and so on.
        penalty: The penalty of this round, or None.
        teacher: The teacher in eval mode, or None.
        augment: Draws of the augmentation.
        gates: Factors on channels while the network trains, or None.
        mask: Weight mask, bool[weights], False = stays zero; None = every weight is
            trained.
        quantiser: Rounds weights and inputs while the network trains, or None.
    """

    examples: Examples
    task: LoadedTask
    settings: TrainSettings
    penalty: Penalty | None
    teacher: nn.Module | None
    augment: torch.Generator
    gates: ChannelGates | None = None
    mask: Mask | None = None
    quantiser: Quantiser | None = None

    def forward(self, model: nn.Module, inputs: object) -> Any:  # noqa: ANN401 - of the network
        """Return the outputs of the network as it is trained."""
        if self.quantiser is None:
            return run_network(model, inputs)
        return self.quantiser.run(model, inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Figures of the last epoch of a local training.

    Attributes:
        loss: Mean loss of the examples that count; 0 without an epoch.
        counted: Examples with a target that counts; without an epoch all of them.
    """

    loss: float
    counted: int


def train(
    model: nn.Module, training: LocalTraining, rng: np.random.Generator
) -> Trained:
    """Train a network in place.

    A batch without a target that counts takes no step of the optimiser.

    With a penalty the network ends with its pre-prox weights (see
    ``fedprune.common.sparsity.penalty``).
    """
    with frozen(model, training.settings.frozen):
        return _trained(model, training, rng)


def _trained(
    model: nn.Module, training: LocalTraining, rng: np.random.Generator
) -> Trained:
    settings, task = training.settings, training.task
    plans = [
        _shuffled(len(training.examples), settings.batch, rng)
        for _ in range(settings.epochs)
    ]
    steps = sum(len(plan) for plan in plans)
    dual = _dual_steps(model, training, steps)
    optimiser = _optimiser(model, training)
    changes = _gradient_changes(model, settings)
    _set_mode(model, training)
    loss = torch.zeros((), dtype=wide_type(device_of(model)), device=device_of(model))
    counted = 0 if plans else len(training.examples)
    masked = None if training.mask is None else MaskedWeights(model, training.mask)
    with _attached(model, training):
        for plan in plans:
            loss.zero_()
            counted = 0
            for batch in plan:
                drawn = task.augmented(training.examples.batch(batch), training.augment)
                counts = counted_of(task, drawn)
                number = number_of(counts, drawn)
                if number:
                    mean = _step(model, training, optimiser, changes, (drawn, counts))
                    loss += wide(mean) * number
                    counted += number
                if dual is not None:
                    dual.after_step()
                if masked is not None:
                    masked.after_step()
        if dual is not None:
            dual.restore()  # before gates are folded into what the answer is made of
    return Trained(loss=float(loss) / max(counted, 1), counted=counted)


@contextmanager
def _attached(model: nn.Module, training: LocalTraining) -> Iterator[None]:
    """Attach gates and quantiser to the network while the block runs."""
    with ExitStack() as parts:
        for part in (training.gates, training.quantiser):
            if part is not None:
                parts.enter_context(part.attached(model))
        yield


def _shuffled(count: int, size: int, rng: np.random.Generator) -> list[Indices]:
    """Return the batches of one epoch; a last batch of one joins the one before.

    Batch norm cannot normalise one example on one position.
    """
    order = rng.permutation(count)
    parts = [order[start : start + size] for start in range(0, count, size)]
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


def _optimiser(model: nn.Module, training: LocalTraining) -> Steps:
    """Return the task's own optimiser, or that of the settings."""
    settings = training.settings
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    own = training.task.optimizer(trained, settings.lr)
    return own or build_optimizer(trained, settings)


def _gradient_changes(
    model: nn.Module, settings: TrainSettings
) -> list[Callable[[], None]]:
    """Return what changes the gradients of a step: proximal term, then clipping."""
    proximal = proximal_term(model, settings.proximal)
    changes = [] if proximal is None else [proximal.add_gradient]
    if settings.clip > 0.0:
        weights = tuple(model.parameters())
        changes.append(partial(clip_gradients, weights, settings.clip))
    return changes


def _dual_steps(
    model: nn.Module, training: LocalTraining, steps: int
) -> DualSteps | None:
    if training.penalty is None:
        return None
    parameters = dict(model.named_parameters())
    return DualSteps(training.penalty, parameters, steps)


def _set_mode(model: nn.Module, training: LocalTraining) -> None:
    """Set train mode, with batch norm in eval mode where it is frozen or unusable."""
    model.train()
    settings = training.settings
    smallest = min(settings.batch, len(training.examples))
    unusable = settings.freeze or smallest < 2  # noqa: PLR2004 - no spread in one
    for name, module in norm_modules(model):
        if unusable or is_inside(name, settings.frozen):
            module.eval()


def _step(
    model: nn.Module,
    training: LocalTraining,
    optimiser: Steps,
    changes: Sequence[Callable[[], None]],
    drawn: tuple[Batch, Tensor | None],
) -> Tensor:
    """Take one local step; return its mean loss, not read yet: a GPU runs on.

    Args:
        model: The network.
        training: Loss and settings.
        optimiser: Takes the step.
        changes: Change the gradients, in this order.
        drawn: The batch as training sees it, and which of its examples count, of which
            there is one at least.
    """
    task, gates = training.task, training.gates
    batch, counts = drawn
    found = batch.to(device_of(model))
    optimiser.zero_grad(set_to_none=True)
    if gates is not None:
        gates.draw()
    with autocast(model, training.settings.precision):
        outputs = training.forward(model, found.inputs)
        losses = task.loss(outputs, found)
    loss = chosen(losses, counts).mean()
    if training.teacher is not None:
        weight = training.settings.distill_weight
        with torch.no_grad():
            wanted = run_network(training.teacher, found.inputs)
        far = teacher_distance(
            task, outputs, wanted, found, training.settings.temperature
        )
        loss = (1.0 - weight) * loss + weight * far
    total = loss if gates is None else loss + gates.cost()
    total.backward()  # type: ignore[no-untyped-call]
    for change in changes:
        change()
    optimiser.step()
    if gates is not None:
        gates.step()
    return loss.detach()
