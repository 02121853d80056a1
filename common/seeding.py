"""Random streams: one for each (seed, round, key, use), and no global randomness.

The key is a string, normally a client id, so that a stream does not depend on the
engine, on the worker that runs the client, or on the order in which clients run.
Streams are independent: the seed of each is a blake2b digest of all four parts.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import numpy as np
import torch

from fedprune.common.spec import digest_of

# torch takes seeds below 2**64; 63 bits keep them valid as signed integers too.
_TORCH_SEED_BITS = 63
_NUMPY_SEEDS = 2**32  # of NumPy's global generator


class Use(StrEnum):
    """Purpose of a random stream; two uses never share numbers."""

    INIT = "init"
    DATA = "data"
    PARTITION = "partition"
    VALIDATION = "validation"
    SHUFFLE = "shuffle"
    AUGMENT = "augment"
    DROPOUT = "dropout"
    SCORE = "score"
    MEASURE = "measure"
    RANDOM_SCORE = "random-score"
    SAMPLE = "sample"
    CALIBRATE = "calibrate"
    FAULT = "fault"
    CHOICE = "choice"
    ATTACK = "attack"


def stream_seed(seed: int, round_: int, key: str, use: Use) -> int:
    """Return the 128-bit seed of one random stream.

    Args:
        seed: Seed of the run.
        round_: Round of the stream, from 1; 0 before the rounds.
        key: Owner of the stream: a client id, or a name such as ``"server"``.
        use: Purpose of the numbers.

    Returns:
        An integer, 0 <= value < 2**128; equal parts give equal seeds on every
        machine and in every process.
    """
    digest = digest_of(
        str(seed).encode(), str(round_).encode(), key.encode(), use.encode()
    )
    return int.from_bytes(digest, "little")


def generator(seed: int, round_: int, key: str, use: Use) -> np.random.Generator:
    """Return numpy's generator of one stream (see ``stream_seed`` for the parts).

    >>> first = generator(0, 1, "client-000", Use.SHUFFLE).integers(1000)
    >>> second = generator(0, 1, "client-000", Use.SHUFFLE).integers(1000)
    >>> bool(first == second)
    True
    """
    # PCG64 explicitly: default_rng may choose another bit generator one day.
    return np.random.Generator(np.random.PCG64(stream_seed(seed, round_, key, use)))


def torch_seed(seed: int, round_: int, key: str, use: Use) -> int:
    """Return the seed of one stream for torch, 0 <= value < 2**63."""
    return stream_seed(seed, round_, key, use) % (1 << _TORCH_SEED_BITS)


def torch_generator(seed: int, round_: int, key: str, use: Use) -> torch.Generator:
    """Return torch's CPU generator of one stream (see ``stream_seed``)."""
    stream = torch.Generator()
    stream.manual_seed(torch_seed(seed, round_, key, use))
    return stream


@contextmanager
def seed_globals(seed: int, round_: int, key: str, use: Use) -> Iterator[None]:
    """Run a block with every global generator on one stream, then restore them.

    Those of torch, NumPy and Python: dropout and the initialisers of ``nn.Module``
    take no generator, and a user's own code may draw from any of them.  CPU always;
    CUDA devices when CUDA is already in use (move the model to its device first).
    """
    with globals_at(torch_seed(seed, round_, key, use)):
        yield


@contextmanager
def globals_at(number: int) -> Iterator[None]:
    """Run a block with every global generator at a seed, 0 <= number < 2**63."""
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if cuda else []
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=devices):
            # Not torch.manual_seed: it queues seeds for devices that are not restored.
            torch.default_generator.manual_seed(number)
            if cuda:
                torch.cuda.manual_seed_all(number)
            random.seed(number)  # noqa: TID251 - restored below
            np.random.seed(number % _NUMPY_SEEDS)  # noqa: NPY002, TID251
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)  # noqa: NPY002
