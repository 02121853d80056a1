"""The weight mask on a client: stored by its digest, applied after each local step."""

import torch
from torch import Tensor, nn

from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.errors import IntegrityError
from fedprune.common.messages import RoundPlan
from fedprune.common.sparsity.masks import check_mask
from fedprune.common.spec import Mask, ModelSpec, WeightMask


def open_mask(
    plan: RoundPlan, spec: ModelSpec, store: ClientStore
) -> WeightMask | None:
    """Return the mask that a plan names, or None; store one that has just come.

    Raises:
        PayloadError: If it does not belong to this network.
        IntegrityError: If the plan leaves it out, and it is not stored here.
    """
    if not plan.mask:
        return None
    name = f"mask-{plan.mask.hex()}.bin"

    def read(data: bytes) -> WeightMask:
        return codec.decode_mask(data, max_weights=spec.size)

    mask = plan.weight_mask or store.load_shared(name, read)
    if mask is None:
        msg = f"weight mask {plan.mask.hex()} is not stored here: send it again"
        raise IntegrityError(msg)
    check_mask(mask, spec, plan.broadcast.plan.digest, plan.mask)
    if plan.weight_mask is not None:
        store.save_shared(name, read, lambda: codec.encode_mask(mask))
    return mask


class MaskedWeights:
    """The masked weights of a network, which stay at zero while it trains.

    Args:
        model: The network.
        keep: bool[weights] in model order, True = trained.
    """

    def __init__(self, model: nn.Module, keep: Mask) -> None:
        self._pairs: list[tuple[nn.Parameter, Tensor]] = []
        start = 0
        for weight in model.parameters():
            part = torch.from_numpy(keep[start : start + weight.numel()])
            start += weight.numel()
            if not bool(part.all()):
                self._pairs.append((weight, ~part.view(weight.shape).to(weight.device)))

    def after_step(self) -> None:
        """Set the masked weights, which the optimiser has moved, to zero again."""
        with torch.no_grad():
            for weight, gone in self._pairs:
                weight.masked_fill_(gone, 0.0)
