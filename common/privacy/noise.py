"""Noise of a secret key: discrete Gaussian integers that only its owner can subtract.

The key is the operator's.  Each block of noise follows the key, its purpose, its size
and a digest of the sum that it hides: the same sum in a resumed run gets the same
noise, and another sum, or the same one with more noise, never does, so that no
difference or multiple of two releases is free of noise.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from math import floor
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from fedprune.common.errors import ConfigError

Integers: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

KEY_BYTES = 32
# Largest standard deviation: a draw of 37 of them is a whole number below 2**53.
_MOST = 2.0**46
_CHUNK = 1 << 18  # numbers that are drawn at once
_FRACTION = 53  # bits of a float64


@dataclass(frozen=True, slots=True)
class NoiseKey:
    """Secret key of the noise.

    Attributes:
        secret: 32 random bytes.
    """

    secret: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """Digest by which a run knows its key again, 16 hex digits."""
        return blake2b(self.secret, digest_size=8, person=b"fedprune-name").hexdigest()

    def hidden(self, sum_: Integers, sigma: float, *purpose: str) -> Integers:
        """Return a sum with noise on each entry, int64[n].

        Args:
            sum_: The exact sum, int64[n].
            sigma: Standard deviation in the unit of the sum, > 0.
            purpose: Run, round and quantity.

        Raises:
            ConfigError: If ``sigma`` is too large for whole numbers in floats.
        """
        check_size(sigma)
        digest = blake2b(key=self.secret, digest_size=KEY_BYTES)
        words = (one.encode() for one in (*purpose, float(sigma).hex()))
        for part in (*words, sum_.tobytes()):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        stream = _Stream(digest.digest())
        noise = discrete_gaussian(stream, sigma, len(sum_))
        hidden: Integers = sum_ + noise
        return hidden


def check_size(sigma: float) -> None:
    """Refuse noise that whole numbers in floats cannot hold.

    Args:
        sigma: Standard deviation in the unit of a sum.

    Raises:
        ConfigError: If it is not above 0, or too large.
    """
    if not 0.0 < sigma <= _MOST:
        msg = f"noise is {sigma / _MOST:.3g} of what sums of integers can have; want a "
        raise ConfigError(msg + "smaller privacy.clip or local_noise, or more epsilon")


class _Stream:
    """Uniform numbers of a ChaCha20 key stream."""

    def __init__(self, key: bytes) -> None:
        # Each key has one stream, so that its nonce need not differ.
        self._encryptor = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    def uniform(self, count: int) -> Floats:
        """Return float64[count] in (0, 1), multiples of 2**-54."""
        words = np.frombuffer(self._encryptor.update(bytes(8 * count)), dtype="<u8")
        fraction = words >> np.uint64(64 - _FRACTION)
        found: Floats = (fraction.astype(np.float64) + 0.5) * 2.0**-_FRACTION
        return found


def discrete_gaussian(stream: _Stream, sigma: float, size: int) -> Integers:
    """Draw integers with probability proportional to ``exp(-x**2 / (2 * sigma**2))``.

    By rejection from a discrete Laplace distribution, in float64.  Canonne, Kamath and
    Steinke 2020, arXiv:2004.00010, algorithm 3.

    Args:
        stream: Source of uniform numbers.
        sigma: Standard deviation, > 0.
        size: Number of integers.
    """
    out: Integers = np.empty(size, dtype=np.int64)
    filled = 0
    while filled < size:
        found = _some(stream, sigma, min(2 * (size - filled) + 16, _CHUNK))
        taken = min(len(found), size - filled)
        out[filled : filled + taken] = found[:taken]
        filled += taken
    return out


def _some(stream: _Stream, sigma: float, count: int) -> Integers:
    scale = floor(sigma) + 1
    size = np.floor(-scale * np.log(stream.uniform(count)))
    negative = stream.uniform(count) < 0.5  # noqa: PLR2004 - a fair coin
    distance = size - sigma**2 / scale
    likely = np.exp(-(distance**2) / (2 * sigma**2))
    # Zero has one sign only, or it would come twice as often.
    kept = (stream.uniform(count) < likely) & ~(negative & (size == 0))
    found: Integers = np.where(negative, -size, size)[kept].astype(np.int64)
    return found
