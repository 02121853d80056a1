"""Networks that stay built between clients and rounds, so that nothing is rebuilt."""

from collections import OrderedDict

import numpy as np
from torch import nn

from common.messages import Mask, Statistics, Vector
from common.models.flat import set_statistics, set_weights
from common.pruning.plan import apply_plan
from common.pruning.structure import Structure
from common.task import ClientData, Task

_KEPT = 3  # the current network, its teacher, and the one before a rollback


class Workbench:
    """The resident networks and data of one process that plays clients.

    A network is built once for each plan; weights are then copied in place.

    Args:
        task: The task that the clients work on.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._models: OrderedDict[bytes, nn.Module] = OrderedDict()
        self._data: dict[str, ClientData] = {}
        self._structures: dict[bytes, Structure] = {}

    def network(
        self,
        structure: Structure,
        keep: Mask,
        weights: Vector,
        statistics: Statistics | None,
    ) -> nn.Module:
        """Return the cut network with these weights; the next call may reuse it."""
        key = structure.digest + np.packbits(keep).tobytes()
        model = self._models.pop(key, None)
        if model is None:
            model = self.task.build_model()
            apply_plan(model, structure, keep)
        self._models[key] = model
        while len(self._models) > _KEPT:
            self._models.popitem(last=False)
        model.zero_grad(set_to_none=True)
        set_weights(model, weights)
        if statistics is not None:
            set_statistics(model, statistics.mean, statistics.variance)
        return model

    def data(self, client_id: str) -> ClientData:
        """Return a client's examples."""
        if client_id not in self._data:
            self._data[client_id] = self.task.client_data(client_id)
        return self._data[client_id]

    def structure(self, digest: bytes, text: bytes) -> Structure:
        """Return the structure of a canonical JSON text, parsed once."""
        if digest not in self._structures:
            self._structures[digest] = Structure.from_json(text)
        return self._structures[digest]
