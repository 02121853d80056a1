"""The model cache: networks and data that one process keeps between clients and rounds.

A network is built once for each prune plan; weights and statistics are then copied in.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from fedprune.common.errors import DataError
from fedprune.common.messages import Broadcast, Statistics
from fedprune.common.models.buffers import changed_buffers, is_like
from fedprune.common.models.flat import set_state, set_weights
from fedprune.common.models.layout import lay_out
from fedprune.common.models.training import holders
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.sparsity.penalty import Penalty, PenaltySpec, build_penalty
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.announced import Check, same_as
from fedprune.common.structure.structure import Structure
from fedprune.common.tasks.loaded import ClientData, LoadedTask

T = TypeVar("T")

_KEPT = 3  # the current network, its teacher, and the one before a rollback
_READ = 4  # broadcasts of one round: whole, and encoded against a few earlier ones
_BUILT = 1  # penalties: all clients of a round have the same


class Recall:
    """The values that were made last, by what they were made of.

    Args:
        most: Number of values that are kept, >= 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` returns, or has returned for an equal key."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)  # the first of equal keys stays: bytes are large
        found: T = self._values[key]
        while len(self._values) > self._most:
            self._values.popitem(last=False)
        return found


class ModelCache:
    """The cached networks and data of one process that runs clients.

    Args:
        task: The task of the clients; ``follow`` sets the seed and the validation
            share of a run.
    """

    def __init__(self, task: LoadedTask) -> None:
        self.task = task
        self._models: OrderedDict[bytes, nn.Module] = OrderedDict()
        self._first: dict[bytes, dict[str, Tensor]] = {}
        self._data: dict[str, ClientData] = {}
        self._structures: dict[bytes, Structure] = {}
        self._spare: nn.Module | None = None  # built to compare, not cut yet
        self._decoded = Recall(_READ)
        self._penalties = Recall(_BUILT)

    def follow(self, seed: int, validation: float) -> None:
        """Switch to a run's seed and validation share; drop what belongs to others."""
        self._change(self.task.under(seed, validation))

    def agree(self, labels: tuple[str, ...]) -> None:
        """Use the server's names of the classes; () = the numbers of the data."""
        if labels != self.task.agreed:
            self._change(replace(self.task, agreed=labels))

    def _change(self, task: LoadedTask) -> None:
        if task is not self.task:
            self.task, self._spare = task, None
            self._models.clear()
            self._first.clear()
            self._data.clear()

    def network(
        self,
        structure: Structure,
        keep: Mask,
        weights: Vector,
        statistics: Statistics | None,
    ) -> nn.Module:
        """Return the cut network with these weights; the next call may reuse it.

        Args:
            structure: The original network.
            keep: The units that stay, bool[units].
            weights: float32[n of the cut network].
            statistics: Moments and running values; those of a fresh network where a
                part is empty, or None.
        """
        key = _key(structure, keep)
        model = self._models.pop(key, None)
        if model is None:
            model, self._spare = self._uncut(), None
            apply_plan(model, structure, keep)
            lay_out(model, self.task.example())
            model.to(self.task.device)
            self._first[key] = {n: b.clone() for n, b in model.named_buffers()}
        self._models[key] = model
        while len(self._models) > _KEPT:
            del self._first[self._models.popitem(last=False)[0]]
        model.zero_grad(set_to_none=True)
        set_weights(model, weights)
        # Every buffer starts as in a fresh network, never as an earlier client left it.
        _restore(model, self._first[key])
        set_state(model, statistics, structure.living(keep).running)
        return model

    def check_constants(
        self, structure: Structure, keep: Mask, model: nn.Module
    ) -> None:
        """Refuse a trained network in which a buffer changed that is not averaged.

        Args:
            structure: The original network.
            keep: The units that stay, bool[units].
            model: What ``network`` returned for them, after training.

        Raises:
            DataError: If the trial before the run has not found such a buffer.
        """
        first = self._first[_key(structure, keep)]
        changed = changed_buffers(first, model, structure.running)
        if changed:
            msg = f"training changed {changed}, which no step did before the run, so it"
            msg += " is not averaged; want a buffer that every training step changes,"
            msg += " or persistent=False for what is only a cache"
            raise DataError(msg)

    def data(self, client_id: str) -> ClientData:
        """Return a client's examples."""
        if client_id not in self._data:
            self._data[client_id] = self.task.client_data(client_id)
        return self._data[client_id]

    def decoded(self, broadcast: Broadcast, read: Callable[[], T]) -> T:
        """Return a broadcast as ``read`` decodes it; equal bytes are decoded once."""
        key = (broadcast.plan.digest, broadcast.digest, broadcast.weights)
        return self._decoded.get(key, read)

    def penalty(
        self,
        structure: Structure,
        broadcast: Broadcast,
        weights: Vector,
        spec: PenaltySpec,
    ) -> Penalty | None:
        """Return the penalty for a broadcast, which is built once.

        Args:
            structure: The original network.
            broadcast: What the clients were sent.
            weights: Its decoded weights, float32[n].
            spec: Name, strength and targets.

        Raises:
            ConfigError: As ``build_penalty``.
        """
        targets = b"" if spec.targets is None else spec.targets.tobytes()
        key = (broadcast.plan.digest, broadcast.digest, replace(spec, targets=None))
        return self._penalties.get(
            (*key, targets),
            lambda: build_penalty(structure, broadcast.plan.keep, weights, spec),
        )

    def structure(self, digest: bytes, text: bytes) -> Structure:
        """Return the structure of a canonical JSON text, parsed once.

        Raises:
            PayloadError: If it is not a valid structure, or not that of the task's own
                network: nothing of the size that it announces has been made then.
        """
        if digest not in self._structures:
            found = Structure.from_json(text, self._own())
            # By its own digest: a wrong text must not stand for the right one.
            self._structures[found.digest] = found
            return found
        return self._structures[digest]

    @cached_property
    def size(self) -> int:
        """Weights of the task's own network before any cut."""
        return sum(weight.numel() for weight in self._uncut().parameters())

    @cached_property
    def modules(self) -> frozenset[str]:
        """Names of the modules with weights of the task's own network, uncut."""
        return holders(self._uncut())

    def _uncut(self) -> nn.Module:
        if self._spare is None:
            self._spare = self.task.build_model()
        return self._spare

    def _own(self) -> Check:
        """Return the check that a structure describes the task's own network."""
        model = self._uncut()
        weights = [(name, tuple(w.shape)) for name, w in model.named_parameters()]
        buffers = [(name, tuple(b.shape)) for name, b in model.named_buffers()]
        return same_as(weights, buffers)


def _key(structure: Structure, keep: Mask) -> bytes:
    return structure.digest + np.packbits(keep).tobytes()


def _restore(model: nn.Module, first: dict[str, Tensor]) -> None:
    """Set every buffer to its first value; caches may have changed their shape."""
    found = dict(model.named_buffers())
    for name, value in first.items():
        item = found.get(name)
        if item is not None and is_like(item, value) and not item.requires_grad:
            item.copy_(value)
        else:
            home, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(home), attribute, value.clone())
