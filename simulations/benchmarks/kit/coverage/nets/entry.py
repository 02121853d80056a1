"""One network of the coverage list: origin, source, builder and inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedprune.common.structure.tracing.find import Example

Inputs = Callable[[int], Example]

TIMM, TORCHVISION, HUGGING_FACE, OWN = "timm", "torchvision", "hf", "own"
ORIGINS = (TIMM, TORCHVISION, HUGGING_FACE, OWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A network of the list.

    Attributes:
        origin: Set of the list, one of ``ORIGINS``.
        name: Name in its set, unique there.
        source: Module or paper that defines the network.
        make: Builds it with random weights; downloads nothing.
        inputs: Returns valid inputs for a batch size, floats in float32, the same in
            every call.
    """

    origin: str
    name: str
    source: str
    make: Callable[[], nn.Module]
    inputs: Inputs

    @property
    def key(self) -> str:
        """Name in the whole list: ``ORIGIN/NAME``."""
        return f"{self.origin}/{self.name}"

    def build(self) -> nn.Module:
        """Return the network in eval mode; equal weights in every call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.make().eval()


def noise(*shape: int) -> Inputs:
    """Return the inputs of a network that takes floats: float32[batch, *shape]."""

    def made(batch: int) -> Tensor:
        return _noise((batch, *shape), seed=0)

    return made


def noises(*shapes: tuple[int, ...]) -> Inputs:
    """Return the inputs of a network that takes several tensors of floats."""

    def made(batch: int) -> tuple[object, ...]:
        found = [_noise((batch, *s), seed=n) for n, s in enumerate(shapes)]
        return tuple(found)

    return made


def tokens(length: int, vocabulary: int = 64, inputs: int = 1) -> Inputs:
    """Return the inputs of a network of tokens: ``inputs`` times int64[batch, length].

    Tokens 0 to 3 do not occur: networks give them meanings of their own (padding).
    """

    def made(batch: int) -> Example:
        generator = torch.Generator().manual_seed(0)
        found = [
            torch.randint(4, vocabulary, (batch, length), generator=generator)
            for _ in range(inputs)
        ]
        return found[0] if inputs == 1 else tuple(found)

    return made


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator)


Kinds = Mapping[str, tuple[Callable[[], nn.Module], Inputs]]


def own(kinds: Kinds, source: str) -> list[Entry]:
    """Return hand-made kinds as networks of the list.

    Args:
        kinds: Name -> builder and inputs.
        source: Module that defines them.
    """
    return [
        Entry(origin=OWN, name=name, source=source, make=make, inputs=inputs)
        for name, (make, inputs) in kinds.items()
    ]
