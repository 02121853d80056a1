"""An embedding that runs after some rows of its vocabulary are cut."""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from fedprune.common.spec import Indices

_GONE = -1


class NarrowEmbedding(nn.Embedding):
    """``nn.Embedding`` without the rows of some tokens; token numbers stay the same.

    A token without a row is embedded as zeros, as in the network whose row is zero, and
    gives no gradient.  ``num_embeddings`` stays the number of tokens.

    The buffer ``kept`` is the row of each token, int64[num_embeddings]; -1 = none.
    """

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Return the embedding of each token, float32[..., embedding_dim]."""
        rows = cast("Tensor", self.kept)[input]
        found = functional.embedding(
            rows.clamp(min=0), self.weight, padding_idx=self.padding_idx
        )
        return found.masked_fill((rows < 0)[..., None], 0.0)


def rows_of(module: nn.Embedding, tokens: Tensor) -> Tensor:
    """Return the row of each token, int64; 0 for one that has none."""
    if not isinstance(module, NarrowEmbedding):
        return tokens
    return cast("Tensor", module.kept)[tokens].clamp(min=0)


def without_rows(module: nn.Embedding, kept: Indices) -> None:
    """Let an embedding run whose weight has only some of its rows, in place.

    One that has all of them stays as it is.

    Args:
        module: The embedding; its weight is cut already.
        kept: Token of each row that is left, int64[k], rising.
    """
    if len(kept) == module.num_embeddings:
        return
    rows = np.full(module.num_embeddings, _GONE, dtype=np.int64)
    rows[kept] = np.arange(len(kept))
    if module.padding_idx is not None:
        row = int(rows[module.padding_idx])
        module.padding_idx = None if row == _GONE else row
    module.__class__ = NarrowEmbedding
    lookup = torch.from_numpy(rows).to(module.weight.device)
    module.register_buffer("kept", lookup)
