"""The inputs of layers whose channels may be cut, and what is told of them.

A client tells the mean, the standard deviation and the correlations of the channels
that each layer reads; the server makes weights of them (``reconstruct``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedprune.common.spec import Mask
from fedprune.common.structure.structure import FIXED, Structure

MOST_CHANNELS = 1024  # of one input; their pairs grow with the square


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerInput:
    """Channels that a layer reads and that may be cut.

    Attributes:
        tensor: Name of the layer's weight, whose dimension 1 reads them.
        module: Dotted name of the layer.
        columns: Positions along dimension 1 in the dense network, int64[channels *
            repeat]: those of a channel are neighbours.
        units: Unit of each channel, int32[channels], each once.
        width: Positions along dimension 1 in the dense network.
        repeat: Positions of a channel, >= 1: more than one behind a flattening.
    """

    tensor: str
    module: str
    columns: NDArray[np.int64]
    units: NDArray[np.int32]
    repeat: int
    width: int

    def columns_in(self, keep: Mask) -> NDArray[np.int64]:
        """Return the positions of each kept channel in a cut network.

        Returns:
            int64[kept channels, repeat].
        """
        stays = np.ones(self.width, dtype=np.bool_)
        alive = keep[self.units]
        stays[self.columns] = np.repeat(alive, self.repeat)
        dense = self.columns.reshape(len(self.units), self.repeat)[alive]
        found: NDArray[np.int64] = np.cumsum(stays)[dense] - 1
        return found

    def kept(self, keep: Mask) -> NDArray[np.int32]:
        """Return the units of the channels that a network keeps, in their order."""
        return self.units[keep[self.units]]


def layer_inputs(structure: Structure) -> tuple[LayerInput, ...]:
    """Return the inputs that covariances are told of, in model order.

    Left out are inputs of more than ``MOST_CHANNELS`` channels, and those where a
    channel's positions are no neighbours.
    """
    found = []
    for dim in structure.dims:
        module, _, last = dim.tensor.rpartition(".")
        made = structure.made_dim(dim.tensor)
        if dim.dim != 1 or made == 1 or last != "weight":
            continue
        columns = np.flatnonzero(dim.units != FIXED)
        read = dim.units[columns]
        units, first = np.unique(read, return_index=True)
        units = units[np.argsort(first)].astype(np.int32)
        if not 1 <= len(units) <= MOST_CHANNELS:
            continue
        repeat = len(read) // len(units)
        if np.array_equal(read, np.repeat(units, repeat)):
            found.append(
                LayerInput(
                    tensor=dim.tensor,
                    module=module,
                    columns=columns.astype(np.int64),
                    units=units,
                    repeat=repeat,
                    width=len(dim.units),
                )
            )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Position of one input in ``Covariances``.

    Attributes:
        read: The input.
        channels: Its channels in mean and deviation.
        pairs: Its pairs of channels, those below the diagonal row by row.
    """

    read: LayerInput
    channels: slice
    pairs: slice


def places(structure: Structure, keep: Mask) -> Iterator[Place]:
    """Yield where each input of a cut network stands, in model order.

    Layers inside of dropped blocks have none.
    """
    channels = pairs = 0
    for read in layer_inputs(structure.living(keep)):
        count = len(read.kept(keep))
        after = channels + count, pairs + count * (count - 1) // 2
        yield Place(
            read=read,
            channels=slice(channels, after[0]),
            pairs=slice(pairs, after[1]),
        )
        channels, pairs = after


def sizes(structure: Structure, keep: Mask) -> tuple[int, int]:
    """Return the number of channels and of pairs that a cut network tells of."""
    found = list(places(structure, keep))
    return (found[-1].channels.stop, found[-1].pairs.stop) if found else (0, 0)
