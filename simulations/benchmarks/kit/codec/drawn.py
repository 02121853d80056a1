"""Updates drawn by number: what the coder of this process makes of them.

``python -m fedprune.simulations.benchmarks.kit.codec.drawn START COUNT`` writes eight
bytes for each of COUNT updates from START on to its standard output: a digest of its
message, of what it is decoded to, and of how nine damaged copies are refused or read.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from fedprune.common import codec
from fedprune.common.errors import PayloadError
from fedprune.common.messages import QuantisedDelta, SparseDelta
from fedprune.common.spec import ModelSpec, TensorSpec, Vector

DIGEST = 8  # bytes for an update
MESSAGES = 10  # of an update: one as it was encoded, the others damaged
_TENSORS, _SIDES, _LONGEST = 5, 5, 12  # bounds of a drawn network, not included
_SHORT, _LARGE = 5, 0.05  # most networks have shorter sides; share of the others
_ALIVE, _MASKED = 0.7, 0.2  # shares of weights, and of updates under a mask
_DAMAGES = 4  # bytes of a damaged message that are replaced, not included


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """An update and what both ends know.

    Attributes:
        delta: The update.
        side_info: Side information of both ends.
        seed: What else is drawn for it.
    """

    delta: QuantisedDelta
    side_info: codec.SideInformation
    seed: np.random.Generator


def draw(number: int) -> Drawn:
    """Return an update, which follows from its number."""
    rng = np.random.default_rng(number)
    spec = draw_spec(rng, _LONGEST if rng.random() < _LARGE else _SHORT)
    base = draw_base(rng, spec)
    mask = rng.random(spec.size) < rng.random() if rng.random() < _MASKED else None
    delta = draw_delta(rng, spec)
    if mask is not None:
        inside = mask[delta.indices]
        chosen, values = delta.indices[inside], delta.values[inside]
        delta = SparseDelta(size=spec.size, indices=chosen, values=values)
    kind = codec.VALUES[rng.integers(len(codec.VALUES))]
    return Drawn(
        delta=codec.quantise_delta(delta, spec, kind),
        side_info=codec.SideInformation.of(spec, base, mask=mask),
        seed=rng,
    )


def draw_spec(rng: np.random.Generator, longest: int = _LONGEST) -> ModelSpec:
    """Return a network of a few tensors, empty ones among them, of shorter sides."""
    shapes = [
        tuple(int(n) for n in rng.integers(0, longest, size=rng.integers(0, _SIDES)))
        for _ in range(rng.integers(1, _TENSORS))
    ]
    tensors = [TensorSpec(name=f"t{i}", shape=shape) for i, shape in enumerate(shapes)]
    return ModelSpec(
        tensors=(*tensors, TensorSpec(name="w", shape=(9, 8))), moments=0, units=0
    )


def draw_base(rng: np.random.Generator, spec: ModelSpec) -> Vector:
    """Return weights, some of them 0, float32[size]."""
    alive = rng.random(spec.size) < _ALIVE
    return (rng.normal(size=spec.size) * alive).astype(np.float32)


def draw_delta(rng: np.random.Generator, spec: ModelSpec) -> SparseDelta:
    """Return an update of any density, most often a sparse one."""
    chosen = np.flatnonzero(rng.random(spec.size) < rng.random() ** 2)
    values = (rng.laplace(size=len(chosen)) * 0.01).astype(np.float32)
    values[values == 0] = 1
    return SparseDelta(size=spec.size, indices=chosen, values=values)


def reply(number: int) -> bytes:
    """Return the digest of all that the coder makes of an update."""
    drawn = draw(number)
    data = codec.encode_delta(drawn.delta, drawn.side_info)
    found = blake2b(data, digest_size=DIGEST)
    found.update(_decoded(data, drawn))
    for _ in range(1, MESSAGES):
        found.update(_decoded(_damaged(data, drawn.seed), drawn))
    return found.digest()


def _damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a message with a few bytes replaced."""
    damaged = bytearray(data)
    for _ in range(rng.integers(1, _DAMAGES)):
        damaged[rng.integers(len(data))] = rng.integers(256)
    return bytes(damaged)


def _decoded(message: bytes, drawn: Drawn) -> bytes:
    """Return what a message is decoded to, or why it is refused."""
    kind, size = drawn.delta.kind, drawn.delta.size
    try:
        back = codec.decode_delta(
            message, drawn.side_info, values=kind, max_entries=size
        )
    except PayloadError as error:
        return f"{error.reason} {error.field}".encode()
    return b"".join(one.tobytes() for one in (back.indices, back.values, back.scales))


def main(arguments: Sequence[str]) -> int:
    """Write the replies of the numbers that the command line names."""
    start, count = map(int, arguments)
    for number in range(start, start + count):
        sys.stdout.buffer.write(reply(number))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
