"""Latency of a cut network, from a latency table that was measured on a device.

The table has, for each layer with weights, milliseconds on a grid of input and output
widths; between grid points it is bilinear.  The time outside of such layers (norms,
activations, copies) is that of the whole network minus theirs, and shrinks with the
mean output width of the layers.  A table belongs to one structure, device, runtime and
thread count; ``fedprune profile`` measures it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprune.common.config import Config
from fedprune.common.errors import ConfigError, PayloadError
from fedprune.common.spec import Indices
from fedprune.common.structure.json_fields import (
    load_object,
    read_keys,
    read_list,
    read_name,
    read_positions,
    refuse,
)
from fedprune.common.structure.structure import Structure
from fedprune.common.system.atomic import write_bytes_atomic

VERSION = 1
MAX_BYTES = 1 << 24
MAX_MS = 1e7
_LAYER_KEYS = frozenset({"tensor", "inputs", "outputs", "ms"})
_KEYS = frozenset({"version", "structure", "device", "dense_ms", "layers"})
Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerLatency:
    """Milliseconds of one layer.

    Attributes:
        tensor: Name of its weight.
        inputs: Lengths of dim 1 of the weight, rising, at least one.
        outputs: Lengths of dim 0 of the weight, rising, at least one.
        ms: float64[inputs, outputs], > 0.
    """

    tensor: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ms: Times


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LatencyTable:
    """Latencies measured on one device.

    Attributes:
        structure: Digest of the structure whose layers were measured, in hex.
        device: Processor, runtime and threads.
        dense_ms: Milliseconds of the whole dense network, batch 1.
        layers: The layers, in model order.
    """

    structure: str
    device: str
    dense_ms: float
    layers: tuple[LayerLatency, ...]

    def milliseconds(self, widths: Sequence[tuple[Indices, Indices]]) -> Times:
        """Return milliseconds for (input, output) lengths of each layer, float64[...].

        Args:
            widths: For each layer int64[...] lengths of dim 1 and of dim 0; a layer
                without outputs needs no time.
        """
        full = [layer.ms[-1, -1] for layer in self.layers]
        rest = max(self.dense_ms - sum(full), 0.0)
        times: Any = 0.0
        shares: Any = 0.0
        for layer, (inputs, outputs) in zip(self.layers, widths, strict=True):
            measured = _bilinear(layer, inputs, outputs)
            times = times + np.where(outputs > 0, measured, 0.0)
            shares = shares + outputs / layer.outputs[-1]
        found: Times = times + rest * shares / max(len(self.layers), 1)
        return found

    def check(self, structure: Structure) -> None:
        """Refuse the table of another network.

        Raises:
            ConfigError: If it was not measured for this structure.
        """
        names = {tensor.name for tensor in structure.tensors}
        known = all(layer.tensor in names for layer in self.layers)
        if self.structure != structure.digest.hex() or not known:
            msg = f"prune.latency_table was measured for structure {self.structure};"
            msg += f" this network has {structure.digest.hex()}: run fedprune profile"
            msg += " again"
            raise ConfigError(msg)

    def save(self, path: Path) -> None:
        """Write the table as JSON, atomically."""
        found = {
            "version": VERSION,
            "structure": self.structure,
            "device": self.device,
            "dense_ms": self.dense_ms,
            "layers": [
                {
                    "tensor": layer.tensor,
                    "inputs": layer.inputs,
                    "outputs": layer.outputs,
                    "ms": layer.ms.tolist(),
                }
                for layer in self.layers
            ],
        }
        write_bytes_atomic(path, json.dumps(found, indent=1).encode() + b"\n")


def _bilinear(layer: LayerLatency, inputs: Indices, outputs: Indices) -> Times:
    """Return bilinear milliseconds; outside of the grid those of the nearest edge."""
    row, in_share = _place(layer.inputs, inputs)
    column, out_share = _place(layer.outputs, outputs)
    below, after = np.minimum(row + 1, len(layer.inputs) - 1), layer.ms
    right = np.minimum(column + 1, len(layer.outputs) - 1)
    first = after[row, column] * (1 - out_share) + after[row, right] * out_share
    second = after[below, column] * (1 - out_share) + after[below, right] * out_share
    found: Times = first * (1 - in_share) + second * in_share
    return found


def _place(grid: tuple[int, ...], lengths: Indices) -> tuple[Indices, Times]:
    """Return the grid point at or below each length, and the share up to the next."""
    points = np.asarray(grid, np.float64)
    inside = np.clip(np.asarray(lengths, np.float64), points[0], points[-1])
    low = np.clip(np.searchsorted(points, inside, side="right") - 1, 0, len(grid) - 1)
    high = np.minimum(low + 1, len(grid) - 1)
    gap = points[high] - points[low]
    share = np.where(gap > 0, (inside - points[low]) / np.where(gap > 0, gap, 1.0), 0.0)
    return low, share


def load_table(config: Config) -> LatencyTable | None:
    """Read the latency table of the configuration; None without a latency budget.

    Raises:
        ConfigError: If the configured file cannot be read, or is not a latency table.
    """
    if config.prune.budget.latency is None:
        return None
    path = config.prune.latency_table
    try:
        return _read(Path(path).read_bytes())
    except OSError as error:
        msg = f"cannot read the latency table '{path}': {error.strerror}; make one:"
        msg += " fedprune profile"
        raise ConfigError(msg) from error
    except PayloadError as error:
        msg = f"'{path}' is not a latency table: {error}"
        raise ConfigError(msg) from error


def _read(data: bytes) -> LatencyTable:
    found = load_object(data, "latency", MAX_BYTES)
    read_keys(found, _KEYS, "latency")
    if found["version"] != VERSION:
        field = "latency.version"
        raise refuse(field, f"found {found['version']!r:.20}; want {VERSION}")
    return LatencyTable(
        structure=read_name(found["structure"], "latency.structure"),
        device=read_name(found["device"], "latency.device"),
        dense_ms=_milliseconds(found["dense_ms"]),
        layers=tuple(
            _read_layer(item) for item in read_list(found["layers"], "latency.layers")
        ),
    )


def _read_layer(found: object) -> LayerLatency:
    field = "latency.layers"
    if not isinstance(found, dict):
        raise refuse(field, f"a {type(found).__name__}; want an object")
    read_keys(found, _LAYER_KEYS, field)
    inputs = read_positions(found["inputs"], field, 1 << 24)
    outputs = read_positions(found["outputs"], field, 1 << 24)
    if not inputs or not outputs or min(inputs[0], outputs[0]) < 1:
        raise refuse(field, "a grid has no width, or a width of 0")
    rows = [
        [_milliseconds(item) for item in read_list(row, field, len(outputs))]
        for row in read_list(found["ms"], field, len(inputs))
    ]
    return LayerLatency(
        tensor=read_name(found["tensor"], field),
        inputs=inputs,
        outputs=outputs,
        ms=np.asarray(rows, np.float64),
    )


def _milliseconds(found: object) -> float:
    fits = isinstance(found, int | float) and not isinstance(found, bool)
    if not fits or not 0.0 < float(str(found)) <= MAX_MS:
        field = "latency.ms"
        raise refuse(field, f"found {found!r:.20}; want 0 < milliseconds <= {MAX_MS:g}")
    return float(str(found))
