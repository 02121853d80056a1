"""Losses of examples, and how they are stored."""

import base64
import binascii
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedprune.client.rounds.measure import batches
from fedprune.common.data.examples import Examples
from fedprune.common.errors import IntegrityError
from fedprune.common.tasks.loaded import LoadedTask, run_network

_FORM = np.dtype("<f4")


def losses(
    model: nn.Module, task: LoadedTask, examples: Examples | None = None
) -> NDArray[np.float32]:
    """Return the loss of each example, those of the test by default, float32[n]."""
    chosen = task.test if examples is None else examples
    parts = []
    model.eval()
    with torch.no_grad():
        for places in batches(len(chosen), 256):
            batch = chosen.batch(places)
            parts.append(task.loss(run_network(model, batch.inputs), batch).numpy())
    return np.concatenate(parts).astype(np.float32)


def pack_losses(values: NDArray[np.float32]) -> str:
    """Return losses as JSON: little-endian float32 in base64."""
    return base64.b64encode(values.astype(_FORM).tobytes()).decode("ascii")


def unpack_losses(stored: Mapping[str, object], key: str) -> NDArray[np.float64]:
    """Return the losses that ``pack_losses`` stored, float64[examples].

    Raises:
        IntegrityError: If they are none, or not finite.
    """
    try:
        data = base64.b64decode(str(stored.get(key)), validate=True)
    except binascii.Error as error:
        msg = f"losses are no base64 ({error}); measure them again"
        raise IntegrityError(msg) from error
    if not data or len(data) % _FORM.itemsize:
        msg = f"{len(data)} bytes are no losses; measure them again"
        raise IntegrityError(msg)
    values = np.frombuffer(data, _FORM).astype(np.float64)
    if not np.isfinite(values).all():
        msg = "a loss is not finite; measure it again"
        raise IntegrityError(msg)
    return values
