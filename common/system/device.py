"""The device that trains networks: ``run.device``, and how to compute on it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fedprune.common.errors import ConfigError

CPU = torch.device("cpu")


def torch_device(name: str) -> torch.device:
    """Return the device of ``run.device``.

    Args:
        name: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        ConfigError: If torch has no such device here.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    found = torch.device(name)
    if found.type == "cuda" and not cuda:
        msg = f"run.device is '{name}', and torch finds no CUDA device; want 'auto' or "
        msg += "'cpu', or a torch that is built for CUDA"
        raise ConfigError(msg)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        msg = f"run.device is '{name}', and there are {torch.cuda.device_count()} CUDA "
        msg += "devices, counted from 0"
        raise ConfigError(msg)
    if found.type == "mps" and not mps:
        msg = "run.device is 'mps', and torch finds no Metal device; want 'auto' or "
        msg += "'cpu'"
        raise ConfigError(msg)
    return found


def set_deterministic(*, wanted: bool) -> None:
    """Make torch use deterministic algorithms alone, or those that are fastest.

    On a CPU with one thread all that are used here are deterministic.
    """
    if wanted:
        # cuBLAS reads it when it starts; without it torch raises.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = not wanted
    torch.backends.cudnn.deterministic = wanted
    # Even to set what is set already imports torch's compiler: a second and more.
    if torch.are_deterministic_algorithms_enabled() != wanted:
        torch.use_deterministic_algorithms(wanted)


@contextmanager
def one_thread() -> Iterator[None]:
    """Restrict torch to one thread, so that times and sums are reproducible.

    Sums of linear algebra depend on the number of threads in their last bits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a network's weights; the CPU for one without any."""
    first = next(model.parameters(), None)
    return CPU if first is None else first.device


def wide(value: torch.Tensor) -> torch.Tensor:
    """Return a tensor as float64, or float32 on a device without float64 (Metal)."""
    return value.to(wide_type(value.device))


def wide_type(device: torch.device) -> torch.dtype:
    """Return the widest floating type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64
