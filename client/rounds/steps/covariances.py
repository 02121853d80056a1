"""Covariances of what layers read, which the server rebuilds cut channels from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from fedprune.client.rounds.measure import batches
from fedprune.common.data.examples import Examples
from fedprune.common.messages import Covariances
from fedprune.common.models.inputs import first_input
from fedprune.common.pruning.reconstruction.inputs import Place, places, sizes
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import Structure
from fedprune.common.system.device import device_of, wide
from fedprune.common.tasks.loaded import run_network

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LARGEST = 65504.0  # of a float16, in which they are sent
_SMALLEST = 1e-3  # of deviations, as a share of mean and largest deviation


class _Sums:
    """Sums over examples and positions of one input's channels and their products.

    They are those of the distances to ``centre``, the means of the first batch:
    products of float32 that are large beside the variance would drown it.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.centre = torch.zeros(channels)
        self.first = np.zeros(channels)
        self.second = np.zeros((channels, channels))

    def add(self, rows: Tensor) -> None:
        """Add float[rows, channels]."""
        if not self.count and len(rows):
            self.centre = wide(rows).mean(dim=0).float()
        self.count += len(rows)
        # Products of float32 sum in float32 over one batch only.
        rows = rows - self.centre
        self.first += rows.sum(dim=0).cpu().double().numpy()
        self.second += (rows.T @ rows).cpu().double().numpy()


def covariances(
    model: nn.Module,
    examples: Examples,
    structure: Structure,
    keep: Mask,
    batch_size: int,
) -> Covariances:
    """Return the covariances of the channels that layers read.

    An input stays unmeasured (its deviations are 0) where the layer is none of
    PyTorch's linear layers and convolutions without groups, where another layer has
    the same weight or bias, or where a value does not fit float16.

    Args:
        model: The network ``keep``, with the moments that it is scored with; put into
            eval mode.
        examples: Examples to measure on, at least one.
        structure: The original structure.
        keep: The units that the network keeps.
        batch_size: Examples that are measured at once, >= 1.
    """
    wanted = [p for p in places(structure, keep) if _is_readable(model, p, keep)]
    model.eval()
    with torch.no_grad(), _recorded(model, wanted, keep) as sums:
        for rows in batches(len(examples), batch_size):
            batch = examples.batch(rows).to(device_of(model))
            run_network(model, batch.inputs)
    channels, pairs = sizes(structure, keep)
    mean, deviation = (np.zeros(channels, dtype=np.float32) for _ in range(2))
    correlation = np.zeros(pairs, dtype=np.float32)
    for place in wanted:
        found = _told(sums[place.read.tensor])
        if found is not None:
            mean[place.channels], deviation[place.channels] = found[0], found[1]
            correlation[place.pairs] = found[2]
    return Covariances(mean=mean, deviation=deviation, correlation=correlation)


def _is_readable(model: nn.Module, place: Place, keep: Mask) -> bool:
    """Return whether the input of a layer shows the channels of a place."""
    modules = dict(model.named_modules())
    module = modules.get(place.read.module)
    weight, bias = (getattr(module, name, None) for name in ("weight", "bias"))
    shared = [m for m in modules.values() if getattr(m, "weight", None) is weight]
    if len(shared) != 1 or not len(place.read.kept(keep)):
        return False
    if bias is not None and _uses(model, bias) != 1:
        return False
    if isinstance(module, _CONVOLUTIONS):
        return module.groups == 1 and place.read.repeat == 1
    return isinstance(module, nn.Linear)


def _uses(model: nn.Module, weight: Tensor) -> int:
    """Return at how many places a network has a weight."""
    places = model.named_parameters(remove_duplicate=False)
    return sum(one is weight for _, one in places)


@contextmanager
def _recorded(
    model: nn.Module, wanted: list[Place], keep: Mask
) -> Iterator[dict[str, _Sums]]:
    """Sum the inputs of layers while the block runs, by the names of their weights."""
    sums = {p.read.tensor: _Sums(len(p.read.kept(keep))) for p in wanted}

    def recorder(place: Place) -> object:
        columns = torch.from_numpy(place.read.columns_in(keep))

        def record(
            module: nn.Module, given: tuple[Tensor, ...], named: Mapping[str, Tensor]
        ) -> None:
            axis = -1 if isinstance(module, nn.Linear) else 1
            last = first_input(given, named).detach().float().movedim(axis, -1)
            rows = last[..., columns.to(last.device)].reshape(-1, *columns.shape)
            # Positions behind a flattening count as positions of an image do.
            flat = rows.transpose(1, 2).reshape(-1, columns.shape[0])
            sums[place.read.tensor].add(flat)

        return record

    handles = [
        model.get_submodule(place.read.module).register_forward_pre_hook(
            recorder(place),  # type: ignore[arg-type]
            with_kwargs=True,
        )
        for place in wanted
    ]
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()


def _told(sums: _Sums) -> tuple[Vector, Vector, Vector] | None:
    """Return mean, deviation and correlations; None where float16 cannot hold them."""
    if not sums.count:
        return None
    offset = sums.first / sums.count
    mean = sums.centre.cpu().double().numpy() + offset
    covariance = sums.second / sums.count - np.outer(offset, offset)
    deviation = np.sqrt(np.maximum(covariance.diagonal(), 0.0))
    largest = max(np.abs(mean).max(), deviation.max())
    if not largest <= _LARGEST:
        return None
    # Rounding leaves a little variance to a constant channel.  Means travel as float16,
    # and would differ by their rounding where the deviation is that small.
    varies = deviation > _SMALLEST * (np.abs(mean) + deviation.max())
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    correlation = np.clip(covariance * np.outer(scale, scale), -1.0, 1.0)
    lower = correlation[np.tril_indices(len(mean), -1)]
    told = (mean, np.where(varies, deviation, 0.0), lower)
    first, second, third = (one.astype(np.float32) for one in told)
    return first, second, third
