"""Measurements on the broadcast before local training: batch-norm moments, then loss.

Importance, validation and a teacher's outputs, which no other client uses, are computed
with this client's own moments of those very weights.  The moments that travel with the
weights were measured a round ago, on other weights.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedprune.common.data.examples import Examples
from fedprune.common.messages import Statistics, Validation
from fedprune.common.models.flat import (
    get_statistics,
    norm_modules,
    set_statistics,
)
from fedprune.common.models.inputs import first_input, tensors_in
from fedprune.common.models.training import frozen_moments, is_inside
from fedprune.common.spec import Indices
from fedprune.common.system.device import device_of, wide
from fedprune.common.tasks.counted import chosen, counted, number_of
from fedprune.common.tasks.loaded import LoadedTask, run_network

_BATCH = 256  # examples that are evaluated at once
_BATCH_BYTES = 4 << 20  # and bytes of their inputs: large images want smaller batches
MEASURED = 256  # examples of the one forward that measures moments
_BAD = 1e30  # sum of a loss or metric that is not finite
FEWEST = 16  # below this the moments of a channel are too noisy to evaluate with


def batches(count: int, size: int) -> Iterator[Indices]:
    """Yield consecutive ranges of at most ``size`` positions."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def evaluated_batches(examples: Examples) -> Iterator[Indices]:
    """Yield the positions of all examples, in batches that fit into memory.

    A batch has at most ``_BATCH`` examples, and as many as have ``_BATCH_BYTES`` of
    inputs, by the size of the first.
    """
    if len(examples) == 0:
        return
    tensors = tensors_in(examples.batch(np.arange(1)).inputs)
    size = sum(int(x.numel() * x.element_size()) for x in tensors)
    most = min(max(_BATCH_BYTES // max(size, 1), 1), _BATCH)
    yield from batches(len(examples), most)


def balanced(examples: Examples, limit: int, rng: np.random.Generator) -> Indices:
    """Choose up to ``limit`` positions, as even over the classes as they allow.

    A channel that serves one rare class must be measured too.  Examples without one
    class each (values, positions, several labels, or not known) are drawn without.

    Returns:
        Rising positions, int64[min(limit, n)].
    """
    order = rng.permutation(len(examples))
    targets = classes_of(examples)
    if targets is None:
        return np.sort(order[:limit])
    rank = np.zeros(len(targets), dtype=np.int64)
    for value in np.unique(targets):
        places = order[targets[order] == value]
        rank[places] = np.arange(len(places))
    chosen = order[np.argsort(rank[order], kind="stable")][:limit]
    return np.sort(chosen)


def classes_of(examples: Examples) -> NDArray[np.int64] | None:
    """Return the class of each example, int64[n]; None where it has none."""
    found = examples.targets
    if found is None or found.dtype.kind == "f" or found.ndim > 1:
        return None
    return found.astype(np.int64, copy=False)


def fit(
    model: nn.Module, sample: Examples, frozen: Collection[str] = ()
) -> Statistics | None:
    """Set a network's batch-norm moments to the client's own, in place.

    Costs one forward over the sample, where there is batch norm.  With fewer than
    ``FEWEST`` examples the network keeps the pooled moments that it came with, and
    frozen modules always do.  A channel that is constant on the sample keeps the pooled
    variance: an example outside of the sample, whose value is another, would be divided
    by nothing.

    Args:
        model: The network, with the weights that are evaluated.
        sample: Examples to measure on, at most ``MEASURED``.
        frozen: Names of the frozen modules.

    Returns:
        The measured moments, or None with fewer than two examples.
    """
    found = measure_statistics(model, sample, frozen)
    if found is not None and found.num_examples >= FEWEST:
        kept, (mean, variance) = frozen_moments(model, frozen), get_statistics(model)
        set_statistics(
            model,
            np.where(kept, mean, found.mean),
            np.where(kept | found.constant, variance, found.variance),
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Figures of a network on examples, in eval mode.

    Attributes:
        loss_sum: Sum of the losses.
        sums: Name -> sum of each metric; the first is the headline.
        count: Number of examples that count.
    """

    loss_sum: float
    sums: Mapping[str, float]
    count: int

    @property
    def metric(self) -> str:
        """Name of the headline metric; "" without examples."""
        return next(iter(self.sums), "")

    @property
    def means(self) -> dict[str, float]:
        """Name -> mean of each metric; nan where no example counts."""
        count = self.count or float("nan")
        return {name: found / count for name, found in self.sums.items()}

    @property
    def loss(self) -> float | None:
        """Mean loss; None where no example counts."""
        return self.loss_sum / self.count if self.count else None

    @property
    def headline(self) -> float:
        """Mean of the headline metric; nan without examples."""
        return next(iter(self.means.values()), float("nan"))


def evaluate(model: nn.Module, examples: Examples, task: LoadedTask) -> Evaluation:
    """Return the losses and metrics of a network on examples, in eval mode.

    An example without a target that counts is part of no sum.
    """
    model.eval()
    loss_sum, count, device = 0.0, 0, device_of(model)
    sums: dict[str, float] = {}
    with torch.no_grad():
        for batch in evaluated_batches(examples):
            found = examples.batch(batch)
            counts = counted(task, found)
            count += number_of(counts, found)
            found = found.to(device)
            outputs = run_network(model, found.inputs)
            loss_sum += _sum(task.loss(outputs, found), counts)
            for name, values in task.metrics(outputs, found).items():
                sums[name] = sums.get(name, 0.0) + _sum(values, counts)
    return Evaluation(loss_sum=loss_sum, sums=sums, count=count)


def _sum(values: Tensor, counts: Tensor | None) -> float:
    return float(wide(chosen(values, counts)).sum())


def validate(model: nn.Module, examples: Examples, task: LoadedTask) -> Validation:
    """Return loss and headline metric of a network on examples, as they are sent."""
    found = evaluate(model, examples, task)
    loss, metric = found.loss_sum, found.sums.get(found.metric, 0.0)
    # The codec refuses infinity: finite, bad figures are read.  0 would be a good
    # metric where lower is better, or where it can be negative.
    worst = -_BAD if task.higher_is_better else _BAD
    return Validation(
        loss_sum=loss if np.isfinite(loss) else _BAD,
        metric_sum=metric if np.isfinite(metric) else worst,
        count=found.count,
    )


def measure_statistics(
    model: nn.Module, examples: Examples, frozen: Collection[str] = ()
) -> Statistics | None:
    """Return the moments of every batch-norm input on the examples, one forward.

    Earlier layers normalise by this batch, as they do while training, so the moments
    belong to the weights that were sent and not to those of a round ago.  Frozen
    modules normalise by their own moments, also as they do while training.

    Returns:
        Moments in model order, or None with fewer than two examples.  A network without
        batch norm has none to measure: it is put into eval mode, without a forward.
    """
    count = len(examples)
    if count < 2:  # noqa: PLR2004 - a variance needs two examples
        return None
    named = norm_modules(model)
    # Only the norms: dropout would make the moments random.
    model.eval()
    if not named:
        return _of_no_channels(count)
    norms: list[nn.Module] = [module for _, module in named]
    for name, norm in named:
        norm.train(not is_inside(name, frozen))
    with torch.no_grad(), _captured(norms) as moments, _unchanged(norms):
        run_network(model, examples.batch(np.arange(count)).to(device_of(model)).inputs)
    means = [moments[index][0] for index in range(len(norms))]
    variances = [moments[index][1] for index in range(len(norms))]
    return Statistics(
        num_examples=count,
        mean=torch.cat(means).cpu().numpy().astype(np.float32),
        variance=torch.cat(variances).cpu().numpy().astype(np.float32),
    )


def _of_no_channels(count: int) -> Statistics:
    none = np.zeros(0, dtype=np.float32)
    return Statistics(num_examples=count, mean=none, variance=none)


@contextmanager
def _captured(norms: list[nn.Module]) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
    """Record mean and variance of each module's input while the block runs."""
    moments: dict[int, tuple[Tensor, Tensor]] = {}

    def recorder(index: int) -> object:
        def record(
            _: nn.Module, given: tuple[Tensor, ...], named: Mapping[str, Tensor]
        ) -> None:
            # Moments in bfloat16 would be too coarse.
            value = first_input(given, named).float()
            dims = [d for d in range(value.dim()) if d != 1]
            variance, mean = torch.var_mean(value, dim=dims, correction=0)
            moments[index] = (mean, variance)

        return record

    handles = [
        module.register_forward_pre_hook(recorder(i), with_kwargs=True)  # type: ignore[arg-type]
        for i, module in enumerate(norms)
    ]
    try:
        yield moments
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _unchanged(norms: list[nn.Module]) -> Iterator[None]:
    """Keep running statistics as they are while batch norm runs in train mode."""
    saved = [getattr(module, "momentum", None) for module in norms]
    for module in norms:
        module.momentum = 0.0  # type: ignore[assignment]
    try:
        yield
    finally:
        for module, momentum in zip(norms, saved, strict=True):
            module.momentum = momentum  # type: ignore[assignment]
