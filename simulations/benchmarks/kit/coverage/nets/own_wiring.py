"""Kinds of inputs and outputs, and networks of several parts."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from fedprune.common.structure.tracing.find import Example
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import (
    Entry,
    Kinds,
    noise,
    noises,
    own,
    tokens,
)
from fedprune.simulations.benchmarks.kit.coverage.nets.own_conv import conv, head

_IMAGE, _VECTOR, _PAIR = noise(3, 16, 16), noise(16), noises((16,), (16,))


def _dict(batch: int) -> Example:
    return {"image": noise(3, 16, 16)(batch), "table": noise(5)(batch)}


def _image_and_words(batch: int) -> Example:
    return noise(3, 16, 16)(batch), tokens(12)(batch)


def _dense_and_ids(batch: int) -> Example:
    return noise(5)(batch), tokens(3)(batch)


class _TwoInputs(nn.Module):
    """An image and a table of numbers, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.table = (
            nn.Sequential(conv(3, 16), head(16, 20)),
            nn.Linear(5, 12),
        )
        self.out = nn.Linear(32, 10)

    @override
    def forward(self, x: Tensor, y: Tensor) -> object:
        both = torch.cat([self.image(x), self.table(y)], 1)
        return self.out(functional.relu(both))


class _DictInput(_TwoInputs):
    """The same from one dict."""

    @override
    def forward(self, batch: dict[str, Tensor]) -> object:  # type: ignore[override]
        return super().forward(batch["image"], batch["table"])


class _ManyOutputs(nn.Module):
    """Features shared by three outputs of different kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 16), conv(16, 24))
        self.kind, self.value, self.mask = head(24), head(24, 1), nn.Conv2d(24, 2, 1)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.body(x)
        return {"kind": self.kind(x), "rest": [self.value(x).squeeze(-1), self.mask(x)]}


class _ImageAndWords(nn.Module):
    """Images and tokens, compared by the cosine (CLIP, arXiv:2103.00020)."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.embed = (
            nn.Sequential(conv(3, 24), head(24, 16)),
            nn.Embedding(64, 20),
        )
        self.words = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 16))
        self.scale = nn.Parameter(torch.tensor(2.0))

    @override
    def forward(self, x: Tensor, ids: Tensor) -> object:
        x = functional.normalize(self.image(x), dim=-1)
        y = functional.normalize(self.words(self.embed(ids).mean(1)), dim=-1)
        return self.scale.exp() * x @ y.t()


class _Siamese(nn.Module):
    """One network on two inputs, the distance of the two."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 24))
        self.out = nn.Linear(24, 1)

    @override
    def forward(self, x: Tensor, y: Tensor) -> object:
        return self.out(torch.abs(self.body(x) - self.body(y)))


class _Cosine(_Siamese):
    """One network on two inputs, the cosine of the two."""

    @override
    def forward(self, x: Tensor, y: Tensor) -> object:
        x, y = self.body(x), self.body(y)
        return functional.cosine_similarity(x, y), self.out(x * y)


class _Bilinear(nn.Module):
    """A bilinear form of two hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(16, 24), nn.Linear(16, 20)
        self.form = nn.Bilinear(24, 20, 12)
        self.out = nn.Linear(12, 4)

    @override
    def forward(self, x: Tensor, y: Tensor) -> object:
        return self.out(self.form(self.one(x).relu(), self.two(y).relu()).relu())


class _Recommender(nn.Module):
    """Embeddings and dense features, their inner products (arXiv:1906.00091)."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(64, 12) for _ in range(3))
        self.dense, self.out = nn.Linear(5, 12), nn.Linear(12 + 6, 1)

    @override
    def forward(self, x: Tensor, ids: Tensor) -> object:
        dense = self.dense(x).relu()
        rows = [table(ids[:, n]) for n, table in enumerate(self.tables)]
        both = torch.stack([dense, *rows], 1)
        products = torch.bmm(both, both.transpose(1, 2))
        one, two = torch.triu_indices(4, 4, 1).unbind(0)
        return self.out(torch.cat([dense, products[:, one, two]], 1))


class _Film(nn.Module):
    """Channels scaled and shifted by another input (arXiv:1709.07871)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.table = conv(3, 24), nn.Linear(5, 48)
        self.out = head(24)

    @override
    def forward(self, x: Tensor, y: Tensor) -> object:
        scale, shift = self.table(y)[:, :, None, None].chunk(2, dim=1)
        return self.out(torch.relu(self.stem(x) * (1 + scale) + shift))


class _Vae(nn.Module):
    """A variational autoencoder: a mean, a log variance, noise in training."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(16, 32), nn.ReLU())
        self.mean, self.log = nn.Linear(32, 8), nn.Linear(32, 8)
        self.decode = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16))

    @override
    def forward(self, x: Tensor) -> object:
        x = self.encode(x)
        mean, log = self.mean(x), self.log(x)
        code = mean
        if self.training:
            code = mean + torch.randn_like(mean) * torch.exp(0.5 * log)
        return self.decode(code), mean, log


class _TiedAutoencoder(nn.Module):
    """A decoder with the encoder's weights, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.bias = nn.Linear(16, 24), nn.Parameter(torch.zeros(16))

    @override
    def forward(self, x: Tensor) -> object:
        code = torch.sigmoid(self.encode(x))
        return functional.linear(code, self.encode.weight.t(), self.bias)


class _Unflattened(nn.Module):
    """A code that is spread to a map by ``nn.Unflatten``, and deconvolved."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Linear(16, 12 * 16), nn.ReLU(), nn.Unflatten(1, (12, 4, 4))),
            *(nn.ConvTranspose2d(12, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU()),
            nn.ConvTranspose2d(8, 3, 4, 2, 1),
        )

    @override
    def forward(self, x: Tensor) -> object:
        return self.body(x)


class _ConvAutoencoder(nn.Module):
    """Convolutions to a code and back, views by numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(conv(3, 12, stride=2), conv(12, 16, stride=2))
        self.code, self.spread = nn.Linear(16 * 16, 8), nn.Linear(8, 16 * 16)
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 12, 2, 2), nn.ReLU())
        self.out = nn.ConvTranspose2d(12, 3, 2, 2)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.code(self.down(x).flatten(1))
        return self.out(self.up(self.spread(x).view(-1, 16, 4, 4)))


class _Dueling(nn.Module):
    """A value and advantages less their mean (arXiv:1511.06581)."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.value, self.gain = (
            nn.Linear(16, 32),
            nn.Linear(32, 1),
            nn.Linear(32, 6),
        )

    @override
    def forward(self, x: Tensor) -> object:
        x = self.body(x).relu()
        gain = self.gain(x)
        return self.value(x) + gain - gain.mean(1, keepdim=True)


KINDS: Kinds = {
    "two inputs": (_TwoInputs, noises((3, 16, 16), (5,))),
    "dict input": (_DictInput, _dict),
    "outputs in a dict and a list": (_ManyOutputs, _IMAGE),
    "image and tokens": (_ImageAndWords, _image_and_words),
    "Siamese": (_Siamese, _PAIR),
    "Siamese, cosine": (_Cosine, _PAIR),
    "bilinear": (_Bilinear, _PAIR),
    "recommender": (_Recommender, _dense_and_ids),
    "conditional scale": (_Film, noises((3, 16, 16), (5,))),
    "variational autoencoder": (_Vae, _VECTOR),
    "tied autoencoder": (_TiedAutoencoder, _VECTOR),
    "unflatten": (_Unflattened, _VECTOR),
    "convolutional autoencoder": (_ConvAutoencoder, _IMAGE),
    "dueling heads": (_Dueling, _VECTOR),
}


def entries() -> list[Entry]:
    """Return the networks of this file, in the order of the list."""
    return own(KINDS, __name__)
