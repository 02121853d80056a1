"""Kinds of attention and of networks of tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from fedprune.simulations.benchmarks.kit.coverage.nets.entry import (
    Entry,
    Kinds,
    noise,
    noises,
    own,
    tokens,
)
from fedprune.simulations.benchmarks.kit.networks import GatedDecoder

_WIDTH, _HEADS, _HIDDEN = 32, 4, 96
_WORDS, _SERIES = tokens(12), noise(12, 16)


class Blocks(nn.Module):
    """Embedding, one pre-norm block of an attention and an MLP, a classifier.

    Args:
        attention: Takes and returns float32[n, positions, 32].
        vocabulary: Number of tokens; 0 for inputs of 16 floats a position.
    """

    def __init__(self, attention: nn.Module, vocabulary: int = 0) -> None:
        super().__init__()
        self.embed: nn.Module = (
            nn.Embedding(vocabulary, _WIDTH) if vocabulary else nn.Linear(16, _WIDTH)
        )
        self.norm1, self.norm2 = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.attention = attention
        self.mlp = nn.Sequential(
            nn.Linear(_WIDTH, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _WIDTH)
        )
        self.out = nn.Linear(_WIDTH, 10)

    @override
    def forward(self, x: Tensor) -> object:
        """Return float32[n, 10]."""
        x = self.embed(x)
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.out(x.mean(1))


class _Fused(nn.Module):
    """One layer of queries, keys and values, as timm writes it: reshape by C."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.scale = _HEADS, (_WIDTH // _HEADS) ** -0.5
        self.qkv, self.proj = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)

    @override
    def forward(self, x: Tensor) -> object:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.proj((scores @ v).transpose(1, 2).reshape(b, n, c))


class _Heads(nn.Module):
    """Separate layers, views by the width of a head, fused attention."""

    def __init__(self, groups: int = _HEADS) -> None:
        super().__init__()
        self.width = _WIDTH // _HEADS
        self.q, self.o = nn.Linear(_WIDTH, _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.k, self.v = (nn.Linear(_WIDTH, groups * self.width) for _ in range(2))

    def _parts(self, x: Tensor) -> list[Tensor]:
        shape = (*x.shape[:-1], -1, self.width)
        return [f(x).view(shape).transpose(1, 2) for f in (self.q, self.k, self.v)]

    @override
    def forward(self, x: Tensor) -> object:
        q, k, v = self._parts(x)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.o(y.transpose(1, 2).flatten(2))


class _Grouped(_Heads):
    """Two queries for each key and value, paired by torch, with a scale."""

    def __init__(self) -> None:
        super().__init__(groups=2)

    @override
    def forward(self, x: Tensor) -> object:
        q, k, v = self._parts(x)
        y = functional.scaled_dot_product_attention(
            q, k, v, scale=self.width**-0.5, enable_gqa=True
        )
        return self.o(y.transpose(1, 2).flatten(2))


class _Repeated(_Heads):
    """Two queries for each key and value, which are repeated, as in Llama."""

    def __init__(self) -> None:
        super().__init__(groups=2)
        self.repeats = 2

    @override
    def forward(self, x: Tensor) -> object:
        q, k, v = self._parts(x)
        k, v = (y.repeat_interleave(self.repeats, 1) for y in (k, v))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).flatten(2))


class _OneKey(_Heads):
    """One key and one value for all queries (Shazeer 2019, arXiv:1911.02150)."""

    def __init__(self) -> None:
        super().__init__(groups=1)

    @override
    def forward(self, x: Tensor) -> object:
        q, k, v = self._parts(x)
        scores = (q @ k.transpose(-2, -1) * self.width**-0.5).softmax(-1)
        return self.o((scores @ v).transpose(1, 2).flatten(2))


class _Einsum(nn.Module):
    """Attention by einsum, heads as a dimension of parameters."""

    def __init__(self) -> None:
        super().__init__()
        width = _WIDTH // _HEADS
        shape = (_WIDTH, _HEADS, width)
        self.q, self.k, self.v = (
            nn.Parameter(torch.randn(shape) / 6) for _ in range(3)
        )
        self.o = nn.Parameter(torch.randn(_HEADS, width, _WIDTH) / 6)

    @override
    def forward(self, x: Tensor) -> object:
        q, k, v = (
            torch.einsum("bnd,dhk->bhnk", x, w) for w in (self.q, self.k, self.v)
        )
        scores = torch.einsum("bhnk,bhmk->bhnm", q, k).softmax(-1)
        y = torch.einsum("bhnm,bhmk->bhnk", scores, v)
        return torch.einsum("bhnk,hkd->bnd", y, self.o)


class _JoinedBias(nn.Module):
    """A bias of queries, zeros and values (BEiT, arXiv:2106.08254)."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = _HEADS
        self.qkv = nn.Linear(_WIDTH, 3 * _WIDTH, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(_WIDTH))
        self.v_bias = nn.Parameter(torch.zeros(_WIDTH))
        self.register_buffer("k_bias", torch.zeros(_WIDTH), persistent=False)
        self.proj = nn.Linear(_WIDTH, _WIDTH)

    @override
    def forward(self, x: Tensor) -> object:
        bias = torch.cat([self.q_bias, self.k_bias, self.v_bias])  # type: ignore[list-item]
        qkv = functional.linear(x, self.qkv.weight, bias)
        qkv = qkv.reshape(x.shape[0], x.shape[1], 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2))


class _RelativeTable(nn.Module):
    """A learned bias of scores for each head and distance (Swin, arXiv:2103.14030)."""

    def __init__(self, positions: int = 12) -> None:
        super().__init__()
        self.num_heads = _HEADS
        self.qkv, self.proj = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.table = nn.Parameter(torch.randn(2 * positions - 1, _HEADS))
        place = torch.arange(positions)
        index = place[:, None] - place[None, :] + positions - 1
        self.register_buffer("index", index, persistent=False)

    @override
    def forward(self, x: Tensor) -> object:
        b, n, _ = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        index = self.index
        assert isinstance(index, Tensor)  # noqa: S101 - for the types
        bias = self.table[index.view(-1)].view(n, n, -1).permute(2, 0, 1)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias.unsqueeze(0)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1))


class _Rotary(_Heads):
    """Queries and keys turned by their position (Su et al. 2021, arXiv:2104.09864)."""

    def __init__(self) -> None:
        super().__init__()
        steps = 10.0 ** -torch.arange(0, self.width, 2).div(self.width)
        self.register_buffer("steps", steps, persistent=False)

    def _turned(self, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[2], device=x.device, dtype=x.dtype)
        angle = torch.outer(place, self.steps).repeat(1, 2)  # type: ignore[arg-type]
        half = x.shape[-1] // 2
        other = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * angle.cos() + other * angle.sin()

    @override
    def forward(self, x: Tensor) -> object:
        q, k, v = self._parts(x)
        y = functional.scaled_dot_product_attention(self._turned(q), self._turned(k), v)
        return self.o(y.transpose(1, 2).flatten(2))


class _Linear(_Heads):
    """Attention without softmax (Katharopoulos et al. 2020, arXiv:2006.16236)."""

    @override
    def forward(self, x: Tensor) -> object:
        q, k, v = self._parts(x)
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        share = q @ k.sum(2, keepdim=True).transpose(-2, -1)
        y = (q @ (k.transpose(-2, -1) @ v)) / share
        return self.o(y.transpose(1, 2).flatten(2))


class _Torch(nn.Module):
    """``nn.MultiheadAttention`` with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(_WIDTH, _HEADS, batch_first=True)

    @override
    def forward(self, x: Tensor) -> object:
        return self.attention(x, x, x, need_weights=False)[0]


class _Queries(nn.Module):
    """Learned queries look at an encoded sequence (DETR, Perceiver)."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(_WIDTH, _HEADS, _HIDDEN, batch_first=True)
        self.stem, self.decoder = nn.Linear(16, _WIDTH), nn.TransformerDecoder(layer, 1)
        self.queries = nn.Parameter(torch.randn(5, _WIDTH))
        self.kind, self.box = nn.Linear(_WIDTH, 4), nn.Linear(_WIDTH, 4)

    @override
    def forward(self, x: Tensor) -> object:
        queries = self.queries.unsqueeze(0).expand(x.shape[0], -1, -1)
        y = self.decoder(queries, self.stem(x))
        return {"kinds": self.kind(y), "boxes": self.box(y).sigmoid()}


class _Cross(nn.Module):
    """One series asks another, of another length."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(16, _WIDTH), nn.Linear(16, 24)
        self.attention = nn.MultiheadAttention(
            _WIDTH, _HEADS, kdim=24, vdim=24, batch_first=True
        )
        self.out = nn.Linear(_WIDTH, 5)

    @override
    def forward(self, x: Tensor, y: Tensor) -> object:
        y = functional.relu(self.two(y))
        found, weights = self.attention(self.one(x), y, y)
        return self.out(found), weights


class _Translator(nn.Module):
    """``nn.Transformer``: source and target tokens, a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, _WIDTH)
        self.core = nn.Transformer(_WIDTH, _HEADS, 1, 1, _HIDDEN, batch_first=True)
        self.out = nn.Linear(_WIDTH, 64)

    @override
    def forward(self, source: Tensor, target: Tensor) -> object:
        size = target.shape[1]
        mask = torch.ones(size, size, dtype=torch.bool, device=target.device).triu(1)
        y = self.core(self.embed(source), self.embed(target), tgt_mask=mask)
        return self.out(y)


def _encoder(*, first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        _WIDTH, _HEADS, _HIDDEN, batch_first=True, norm_first=first
    )
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


KINDS: Kinds = {
    "attention, fused": (lambda: Blocks(_Fused()), _SERIES),
    "attention, separate": (lambda: Blocks(_Heads()), _SERIES),
    "attention, grouped queries": (lambda: Blocks(_Grouped()), _SERIES),
    "attention, repeated keys": (lambda: Blocks(_Repeated()), _SERIES),
    "attention, one key": (lambda: Blocks(_OneKey()), _SERIES),
    "attention by einsum": (lambda: Blocks(_Einsum()), _SERIES),
    "attention, joined bias": (lambda: Blocks(_JoinedBias()), _SERIES),
    "attention, relative table": (lambda: Blocks(_RelativeTable()), _SERIES),
    "attention, rotary": (lambda: Blocks(_Rotary()), _SERIES),
    "attention, linear": (lambda: Blocks(_Linear()), _SERIES),
    "nn.MultiheadAttention": (lambda: Blocks(_Torch()), _SERIES),
    "nn.TransformerEncoder": (lambda: Blocks(_encoder(first=False)), _SERIES),
    "nn.TransformerEncoder, pre-norm": (lambda: Blocks(_encoder(first=True)), _SERIES),
    "nn.Transformer": (_Translator, tokens(10, inputs=2)),
    "learned queries": (_Queries, _SERIES),
    "tokens": (lambda: Blocks(_Heads(), 64), _WORDS),
    "gated decoder": (GatedDecoder, _WORDS),
    "cross-attention of two series": (
        _Cross,
        noises((12, 16), (7, 16)),
    ),
}


def entries() -> list[Entry]:
    """Return the networks of this file, in the order of the list."""
    return own(KINDS, __name__)
