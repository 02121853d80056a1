"""Data-driven importance of channels, measured on the broadcast before training."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedprune.client.rounds.measure import batches
from fedprune.client.rounds.products import (
    Disagreement,
    ProductMeter,
    Products,
    bias_of,
    channel_axis,
    is_of_outputs,
    is_shown,
)
from fedprune.common.data.examples import Batch, Examples
from fedprune.common.errors import ConfigError
from fedprune.common.messages import TrainSettings
from fedprune.common.methods.channel_weights import ChannelWeights
from fedprune.common.methods.kinds import IMPORTANCE
from fedprune.common.methods.method import Method, Side
from fedprune.common.methods.registry import find
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.importance import (
    MeasurePoint,
    channel_weights,
    checked_scores,
    measure_points,
    unit_sum,
    weight_scores,
)
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import Structure
from fedprune.common.system.device import device_of, wide
from fedprune.common.tasks.counted import chosen, counted, number_of
from fedprune.common.tasks.loaded import LoadedTask, run_network

Scores = dict[str, NDArray[np.float64]]
Activations = dict[str, NDArray[np.float32]]
_STRIDE = 7  # between the examples of batches that are measured in both ways
_TRIED = 8  # examples that a user's own criterion is tried on
_LARGEST = 3e38  # of a float32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A network to score, and the examples that it is scored on.

    Attributes:
        model: The cut network, in eval mode.
        examples: Examples to measure on.
        task: Has the loss.
        structure: The living part of the original structure.
        keep: What the network keeps.
        batch_size: Examples that are measured at once, >= 1.
        draws: Draws for criteria that ask for them.
    """

    model: nn.Module
    examples: Examples
    task: LoadedTask
    structure: Structure
    keep: Mask
    batch_size: int
    draws: np.random.Generator

    def batches(self) -> Iterator[Batch]:
        """Yield the examples in batches."""
        for places in batches(len(self.examples), self.batch_size):
            yield self.examples.batch(places).to(device_of(self.model))

    def mean_loss(self) -> float:
        """Return the mean loss of the network with its current weights."""
        total, count = 0.0, 0
        with torch.no_grad():
            for batch in self.batches():
                loss = self.task.loss(run_network(self.model, batch.inputs), batch)
                counts = counted(self.task, batch)
                total += float(wide(chosen(loss, counts)).sum())
                count += number_of(counts, batch)
        return total / max(count, 1)


def score(  # noqa: PLR0913 - all that a score depends on
    model: nn.Module,
    examples: Examples,
    task: LoadedTask,
    structure: Structure,
    keep: Mask,
    settings: TrainSettings,
    *,
    draws: np.random.Generator,
) -> Vector:
    """Return the importance of each kept unit, float32[kept units], >= 0.

    Args:
        model: The cut network; put into eval mode.
        examples: Examples to measure on, at least one.
        task: Has the loss.
        structure: The original structure.
        keep: The units that the network keeps.
        settings: Names the criterion: one of ``fedprune.common.methods.importance``,
            or this user's own.
        draws: Draws for criteria that ask for them, new in each round.

    Raises:
        ConfigError: If the criterion needs outputs that no module of the network has,
            or does not return one number for each channel.
    """
    criterion = find(IMPORTANCE, settings.importance)
    model.eval()
    work = _Work(
        model=model,
        examples=examples,
        task=task,
        structure=structure.living(keep),
        keep=keep,
        batch_size=settings.batch,
        draws=draws,
    )
    return _scored(work, criterion)


def try_criterion(
    name: str, task: LoadedTask, model: nn.Module, structure: Structure
) -> None:
    """Score a few examples by a user's own criterion, before a run starts.

    Args:
        name: The criterion, as the user's own configuration names it.
        task: Has the examples and the loss.
        model: The uncut network; left as it was.
        structure: Its structure.

    Raises:
        ConfigError: If the criterion fails or returns no importance.
    """
    criterion = find(IMPORTANCE, name)
    keep = structure.full()
    if not criterion.own or structure.units == 0:
        return
    draws = np.random.default_rng(0)
    if criterion.side is Side.SERVER:
        weights = get_weights(model)
        weight_scores(structure, keep, weights, criterion.name, draws)
        return
    count = min(_TRIED, len(task.sample))
    work = _Work(
        model=copy.deepcopy(model).eval(),
        examples=task.sample.take(np.arange(count)),
        task=task,
        structure=structure,
        keep=keep,
        batch_size=count,
        draws=draws,
    )
    _scored(work, criterion)


def _scored(work: _Work, criterion: Method) -> Vector:
    measure = _ablated if "loss_changes" in criterion.needs else _measured
    found = np.nan_to_num(measure(work, criterion), nan=0.0, posinf=_LARGEST)
    return np.clip(found, 0.0, _LARGEST).astype(np.float32)


def _measured(work: _Work, criterion: Method) -> Vector:
    """Return the sum of a criterion over batches and measuring points."""
    points = measure_points(work.structure)
    meter = ProductMeter(work.model, points, work.task)
    wanted = "products" in criterion.needs
    try:
        fast = wanted and meter.can_use_factors(work.examples)
        return _summed(work, criterion, meter, points, fast=fast)
    except Disagreement:
        return _summed(work, criterion, meter, points, fast=False)


def _summed(
    work: _Work,
    criterion: Method,
    meter: ProductMeter,
    points: Sequence[MeasurePoint],
    *,
    fast: bool,
) -> Vector:
    weights = _weights(work, points) if "weights" in criterion.needs else {}
    per_tensor: Scores = {}
    for number, batch in enumerate(work.batches()):
        products: Products = {}
        if "products" in criterion.needs:
            row = number * _STRIDE % batch.size
            products = meter.measure(batch, fast=fast, row=row)
        sums = meter.sums(batch) if "product_sums" in criterion.needs else {}
        seen = _activations(work.model, batch, points, criterion)
        for point in points:
            name = point.tensor
            count = len(work.structure.kept_index(name, point.dim, work.keep))
            given = (products.get(name), sums.get(name), seen.get(name))
            found = criterion(
                products=given[0],
                product_sums=given[1],
                activations=given[2],
                weights=weights.get(name),
                draws=work.draws.random(count),
            )
            finite = all(item is None or np.isfinite(item).all() for item in given)
            value = checked_scores(criterion, found, count, finite=finite)
            per_tensor[name] = per_tensor.get(name, 0.0) + value
    return unit_sum(work.structure, work.keep, per_tensor)[work.keep]


def _weights(work: _Work, points: Sequence[MeasurePoint]) -> dict[str, ChannelWeights]:
    """Return the weights behind the channels of each measuring point."""
    tensors, structure, keep = _tensors(work.model), work.structure, work.keep
    return {
        point.tensor: channel_weights(
            structure,
            keep,
            tensors,
            point.units[structure.kept_index(point.tensor, point.dim, keep)],
        )
        for point in points
    }


def _tensors(model: nn.Module) -> dict[str, Vector]:
    return {
        name: p.detach().float().cpu().numpy() for name, p in model.named_parameters()
    }


def _activations(
    model: nn.Module, batch: Batch, points: Sequence[MeasurePoint], criterion: Method
) -> Activations:
    """Return the outputs at the points, float32[examples, channels, positions]."""
    if "activations" not in criterion.needs:
        return {}
    shown = [point.module for point in points if is_shown(model, point)]
    with torch.no_grad(), outputs(model, shown) as seen:
        run_network(model, batch.inputs)
    # Heads of an attention, or a layer whose weight is used without calling it.
    hidden = [
        p.tensor for p in points if p.module not in seen or not is_shown(model, p)
    ]
    if hidden:
        msg = f"importance '{criterion.name}' needs outputs, and no module outputs "
        msg += f"those of '{hidden[0]}'; want a criterion without activations"
        raise ConfigError(msg)
    found, tensors = {}, dict(model.named_parameters())
    for point in points:
        module = model.get_submodule(point.module)
        channels = tensors[point.tensor].shape[point.dim]
        parts = [
            _by_position(
                _by_example(value, channel_axis(module), batch.size, point.module),
                channels,
            )
            for value in seen[point.module]
        ]
        found[point.tensor] = np.concatenate(parts, axis=2)
    return found


def _by_example(
    output: Tensor, axis: int, count: int, name: str
) -> NDArray[np.float32]:
    """Return an output as float32[examples, channels, positions].

    Raises:
        ConfigError: If its first dimension is not the examples or windows of them.
    """
    last = output.movedim(axis, -1)
    if last.shape[0] % count:
        msg = f"'{name}' outputs {list(output.shape)} for {count} examples, so its "
        msg += "activations cannot be told by example; want taylor, fisher or a "
        msg += "criterion of the weights"
        raise ConfigError(msg)
    found: NDArray[np.float32] = (
        last.reshape(count, -1, last.shape[-1]).transpose(1, 2).float().cpu().numpy()
    )
    return found


def _by_position(outputs_: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Return outputs with one channel for each position of the weight.

    In a transposed convolution a position makes one output channel in each group.
    """
    if outputs_.shape[1] == channels:
        return outputs_
    count, _, places = outputs_.shape
    grouped = outputs_.reshape(count, -1, channels, places)
    return grouped.swapaxes(1, 2).reshape(count, channels, -1)


@contextmanager
def outputs(
    model: nn.Module, names: Sequence[str]
) -> Iterator[dict[str, list[Tensor]]]:
    """Record the outputs of each call of modules while the block runs."""
    seen: dict[str, list[Tensor]] = {}

    def recorder(name: str) -> object:
        def record(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            # A copy, because the next layer may work in place.
            seen.setdefault(name, []).append(output.clone())

        return record

    handles = [
        model.get_submodule(name).register_forward_hook(recorder(name))  # type: ignore[arg-type]
        for name in names
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _ablated(work: _Work, criterion: Method) -> Vector:
    """Return a criterion of the change of the loss when a kept unit is zero."""
    kept = np.flatnonzero(work.keep)
    before = work.mean_loss()
    changes = [_loss_without(work, int(unit)) - before for unit in kept]
    weights = None
    if "weights" in criterion.needs:
        tensors = _tensors(work.model)
        weights = channel_weights(work.structure, work.keep, tensors, kept)
    found = criterion(
        loss_changes=np.array(changes, dtype=np.float64),
        weights=weights,
        draws=work.draws.random(len(kept)),
        products=None,
        product_sums=None,
        activations=None,
    )
    finite = bool(np.isfinite(changes).all())
    scores = checked_scores(criterion, found, len(kept), finite=finite)
    return scores.astype(np.float32)


def _loss_without(work: _Work, unit: int) -> float:
    """Return the mean loss with the weights of one unit at zero."""
    tensors = dict(work.model.named_parameters())
    saved: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for point in measure_points(work.structure):
            kept = work.structure.kept_index(point.tensor, point.dim, work.keep)
            index = torch.from_numpy(np.flatnonzero(point.units[kept] == unit))
            weight = tensors[point.tensor]
            bias = bias_of(point.tensor, tensors)
            positions = weight.shape[point.dim]
            pairs: list[tuple[Tensor, int]] = [(weight, point.dim)]
            if bias is not None and is_of_outputs(bias, point, positions):
                pairs.append((bias, 0))
            for tensor, dim in pairs if len(index) else ():
                saved.append((tensor, tensor.detach().clone()))
                starts = torch.arange(0, tensor.shape[dim], max(positions, 1))
                places = (starts[:, None] + index).reshape(-1)
                tensor.index_fill_(dim, places.to(tensor.device), 0.0)
        loss = work.mean_loss()
        for tensor, value in reversed(saved):
            tensor.copy_(value)
    return loss
