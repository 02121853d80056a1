"""Random streams: one for each (seed, round, key, use), and no global randomness.

The key is a string, normally a client id, so that a stream does not depend on the
engine, on the worker that runs the client, or on the order in which clients run.
Streams are independent: the seed of each is a blake2b digest of all four parts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import numpy as np
import torch

from fedprune.common.spec import digest_of

# torch takes seeds below 2**64; 63 bits keep them valid as signed integers too.
_TORCH_SEED_BITS = 63


class Use(StrEnum):
    """Purpose of a random stream; two uses never share numbers."""

    INIT = "init"
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
def seed_torch(seed: int, round_: int, key: str, use: Use) -> Iterator[None]:
    """Run a block with torch's global generators on one stream, then restore them.

    Dropout and the initialisers of ``nn.Module`` take no generator, so this is the
    only way to seed them.  CPU always; CUDA devices when CUDA is already in use
    (move the model to its device first).
    """
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if cuda else []
    number = torch_seed(seed, round_, key, use)
    with torch.random.fork_rng(devices=devices):
        # Not torch.manual_seed: it queues seeds for devices that are not restored.
        torch.default_generator.manual_seed(number)
        if cuda:
            torch.cuda.manual_seed_all(number)
        yield
