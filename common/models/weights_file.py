"""Weights in files: safetensors, read with every check and written atomically.

Nothing is unpickled.  Equal weights and equal metadata give equal bytes.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.parsing import SHOWS_KIND, other_kind
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.text import and_more

_PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
# Zip (torch since 1.6) and pickle protocols 2 to 5 (torch before it).
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
METADATA_KEY = "fedprune"

_COUNTER = "num_batches_tracked"
_NAMES_SHOWN = 8


def save_weights(path: str | Path, model: nn.Module, metadata: dict[str, str]) -> None:
    """Write all tensors of a network to a safetensors file, atomically.

    A reader sees the old file or the new one, also after a power cut.

    Args:
        path: The file; its folder exists.
        model: The network; parameters and buffers are written.
        metadata: Further text in the file, as JSON with sorted keys under the key
            ``fedprune`` of its header: the format keeps no order of several keys.

    Raises:
        FedPruneError: If it cannot be written; an older file is untouched then.
    """
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    tensors = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in model.state_dict().items()
    }
    text = json.dumps(metadata, sort_keys=True, separators=(",", ":"))
    write_bytes_atomic(Path(path), save(tensors, metadata={METADATA_KEY: text}))


def load_weights(path: str | Path, model: nn.Module) -> None:
    """Read a safetensors file into a network, whole or not at all.

    The names must be exactly those of the network's parameters and buffers, except
    that batch norm's ``num_batches_tracked`` may be absent.  Floating types of
    another width are converted.

    Args:
        path: The file.
        model: The network; written only after every check has passed.

    Raises:
        ConfigError: If there is no such file, it is a pickle, or its names or shapes
            are not the network's.
        IntegrityError: If it is not a valid safetensors file or has a value that is
            not finite.
    """
    path = Path(path).expanduser()
    _check_kind(path)
    wanted = model.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            _check_names(path, names, wanted)
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            _check_shapes(path, shapes, wanted)
            tensors = {name: file.get_tensor(name) for name in sorted(names)}
    except (SafetensorError, OSError) as error:
        raise IntegrityError(_damaged(path, error)) from error
    for name, tensor in tensors.items():
        _check_values(path, name, tensor, wanted[name])
    with torch.no_grad():
        for name, tensor in tensors.items():
            wanted[name].copy_(tensor)


def _check_kind(path: Path) -> None:
    if not path.is_file():
        msg = f"there is no weights file '{path}'"
        raise ConfigError(msg)
    with path.open("rb") as file:
        start = file.read(SHOWS_KIND)
    # A safetensors header of 640 bytes also begins with 80 02; its text follows.
    pickled = start.startswith(_PICKLE_STARTS) and start[8:9] != b"{"
    if path.suffix.lower() in _PICKLE_SUFFIXES or pickled:
        msg = (
            f"'{path}' is a pickle, which runs code when it is read; want safetensors. "
            f"Convert it where you trust it:\n"
            f"  import torch; from safetensors.torch import save_file\n"
            f"  save_file(torch.load('{path.name}', weights_only=True), "
            f"'{path.stem}.safetensors')"
        )
        raise ConfigError(msg)
    if other := other_kind(path.name, start):
        msg = f"'{path}' is {other}; want weights in a safetensors file, such as the "
        msg += "model/final.safetensors of a run"
        raise ConfigError(msg)


def _check_names(path: Path, names: set[str], wanted: dict[str, Tensor]) -> None:
    needed = {name for name in wanted if name.rpartition(".")[2] != _COUNTER}
    missing, unknown = sorted(needed - names), sorted(names - set(wanted))
    if missing or unknown:
        msg = (
            f"'{path}' does not fit the network: missing {_listed(missing)}; "
            f"unknown {_listed(unknown)}"
        )
        raise ConfigError(msg)


def _listed(names: list[str]) -> str:
    return and_more(names, _NAMES_SHOWN) or "nothing"


def _check_shapes(
    path: Path, shapes: dict[str, tuple[int, ...]], wanted: dict[str, Tensor]
) -> None:
    for name, shape in sorted(shapes.items()):
        if shape != tuple(wanted[name].shape):
            msg = (
                f"'{path}': tensor '{name}' has shape {shape}; "
                f"the network takes {tuple(wanted[name].shape)}"
            )
            raise ConfigError(msg)


def _check_values(path: Path, name: str, tensor: Tensor, wanted: Tensor) -> None:
    if tensor.is_floating_point() != wanted.is_floating_point():
        msg = f"'{path}': tensor '{name}' has type {tensor.dtype}; want {wanted.dtype}"
        raise ConfigError(msg)
    # Checked after the conversion: a large float64 overflows in float32.
    if not bool(torch.isfinite(tensor.to(wanted.dtype)).all()):
        msg = f"'{path}': tensor '{name}' holds a value that is not finite"
        raise IntegrityError(msg)


def _damaged(path: Path, error: Exception) -> str:
    return f"'{path}' is no valid safetensors file: {error}"
