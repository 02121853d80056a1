"""Multi-head attention that runs after some of its heads are cut."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override


class NarrowAttention(nn.MultiheadAttention):
    """``nn.MultiheadAttention`` whose heads together are narrower than its input.

    torch's own forward derives the width of a head from the width of the input, and
    refuses any other.  This one reads it from ``head_dim``; parameters and their names
    are the same.  It gives attention weights averaged over the heads that are left.
    """

    @override
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return float32[batch, queries, channels] and the weights, or None."""
        inputs = [query, key, value]
        if not self.batch_first:
            inputs = [item.transpose(0, 1) for item in inputs]
        queries, keys, values = self._project(*inputs)
        mask = self._mask(key_padding_mask, attn_mask, queries)
        if need_weights:
            scores = queries @ keys.transpose(-2, -1) * self.head_dim**-0.5
            if mask is not None:
                scores = scores + mask
            shares = functional.dropout(scores.softmax(-1), self.dropout, self.training)
            found = shares @ values
            weights = shares.mean(1) if average_attn_weights else shares
        else:
            found = functional.scaled_dot_product_attention(
                queries,
                keys,
                values,
                attn_mask=mask,
                dropout_p=self.dropout if self.training else 0.0,
                is_causal=is_causal and mask is None,
            )
            weights = None
        out = self.out_proj(found.transpose(1, 2).flatten(2))
        return (out if self.batch_first else out.transpose(0, 1)), weights

    def _project(self, *inputs: Tensor) -> list[Tensor]:
        """Return queries, keys and values, each [batch, heads, positions, width]."""
        whole = cast("Tensor | None", self.in_proj_weight)
        if whole is not None:
            weights = whole.chunk(3)
        else:
            parts = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            weights = cast("tuple[Tensor, ...]", parts)
        biases: Any = [None] * 3
        if self.in_proj_bias is not None:
            biases = self.in_proj_bias.chunk(3)
        found = [
            functional.linear(item, weight, bias)
            for item, weight, bias in zip(inputs, weights, biases, strict=True)
        ]
        for number, extra in ((1, self.bias_k), (2, self.bias_v)):
            if extra is not None:
                rows = extra.expand(len(found[number]), 1, -1)
                found[number] = torch.cat([found[number], rows], 1)
        width = self.head_dim
        return [
            item.reshape(*item.shape[:2], -1, width).transpose(1, 2) for item in found
        ]

    def _mask(
        self, padding: Tensor | None, mask: Tensor | None, queries: Tensor
    ) -> Tensor | None:
        """Return the summand of the scores, or None."""
        extra = 0 if self.bias_k is None else 1
        found: Tensor | None = None
        for item in (padding, mask):
            if item is None:
                continue
            added = _additive(item, queries)
            added = functional.pad(added, (0, extra))
            if item is padding:
                added = added[:, None, None]
            elif added.dim() == 3:  # noqa: PLR2004 - [batch * heads, ...]
                msg = "a mask of its own for each head does not fit the heads left"
                raise ValueError(msg)
            found = added if found is None else found + added
        return found


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    zeros = torch.zeros_like(mask, dtype=like.dtype)
    return zeros.masked_fill(mask, float("-inf"))


def narrow(model: nn.Module) -> None:
    """Let modules run that a cut made narrower than torch's own code allows."""
    for module in model.modules():
        if type(module) is nn.MultiheadAttention and _is_cut(module):
            module.__class__ = NarrowAttention
            # Disables torch's fused path, which makes the same assumption.
            module._qkv_same_embed_dim = False  # noqa: SLF001 - torch's own switch


def _is_cut(module: nn.MultiheadAttention) -> bool:
    inside = module.num_heads * module.head_dim
    whole = cast("Tensor | None", module.in_proj_weight)
    inputs = (module.q_proj_weight if whole is None else whole).shape[1]
    widths = {inside, inputs, *module.out_proj.weight.shape}
    return widths != {module.embed_dim}
