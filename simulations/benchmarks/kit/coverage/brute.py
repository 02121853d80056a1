"""Brute force: can any single channel of any layer be removed exactly?

No rule about operations is used.  One position of one dimension of one parameter is
removed, and the network is run.  Where it fails, further positions are removed from the
modules that ran, in every way that their lengths allow, until it runs.  A channel is
removable exactly if the network that lacks it equals the network whose parameters are 0
there, and if those parameters mattered.  Rows of an embedding are no channels.

The last channel of each dimension is tried, then the first.  The search is bounded in
time; a search that ran out of it decides nothing.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn
from typing_extensions import override

from fedprune.simulations.benchmarks.kit.coverage.edits import (
    Edit,
    Edits,
    channel_dims,
    shortened,
    ways,
    zeroed,
)
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import Inputs
from fedprune.simulations.benchmarks.kit.coverage.trial import (
    LIMIT,
    distance,
    outputs,
    spread,
    wide,
)

_EDITS = 40  # tensors that one channel may be in
_LAST, _FIRST = -1, 0
# Runs for one channel, and the channel, of each pass.
_PASSES = ((12, _LAST), (2000, _LAST), (500, _FIRST))
_BATCHES = (1, 5)
_MATTERS = 1e-6  # relative change of the output; less is an entry of an unused layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Result of a search: the edits that remove a channel, or none.

    Attributes:
        edits: Empty where no removable channel was found.
        finished: Whether every channel was tried.
    """

    edits: Edits
    finished: bool

    @override
    def __str__(self) -> str:
        """Return the lengths that change."""
        return ", ".join(f"{e.module}.{e.name}:{e.dim}" for e in self.edits)


def removable_channel(
    network: nn.Module, inputs: Inputs, seconds: float = 60.0
) -> Found:
    """Search for a channel that can be removed exactly; the network is left as it was.

    Args:
        network: The network.
        inputs: Its inputs.
        seconds: CPU time of the search.
    """
    search = _Search(network, inputs, time.process_time() + seconds)
    for runs, channel in _PASSES:
        for start in search.starts(channel):
            edits = search.solved(start, runs)
            if edits:
                return Found(edits=edits, finished=True)
            if search.late():
                return Found(edits=(), finished=False)
    return Found(edits=(), finished=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """One run of a shortened network.

    Attributes:
        edits: What was removed.
        failed: Whether the run failed.
        progress: Modules that ran to their end.
        repair: Modules that may have to be shortened next, the likely ones first.
    """

    edits: Edits
    failed: bool
    progress: int
    repair: tuple[str, ...]


class _Search:
    """State of one search: the dense network and its outputs."""

    def __init__(self, network: nn.Module, inputs: Inputs, end: float) -> None:
        self.dense = spread(copy.deepcopy(network).double().eval(), seed=1)
        self.modules = dict(self.dense.named_modules())
        self.batches = [wide(inputs(size)) for size in _BATCHES]
        self.whole = [outputs(self.dense, batch) for batch in self.batches]
        self.end = end

    def late(self) -> bool:
        """Return whether the time is over."""
        return time.process_time() > self.end

    def starts(self, channel: int) -> Iterator[Edit]:
        """Yield the removal of a channel from each dimension of each parameter."""
        for name, module in self.modules.items():
            rows = isinstance(module, nn.Embedding | nn.EmbeddingBag)
            for own, item in module.named_parameters(recurse=False):
                for dim, size in enumerate(channel_dims(module, item)):
                    if item.dim() > 1 and size > 1 and not (rows and dim == 0):
                        yield Edit(name, own, dim, (channel % size,))

    def solved(self, start: Edit, runs: int) -> Edits:
        """Return edits with ``start`` that remove a channel exactly, or none.

        Edits that get further through the network are repaired first, and in turns
        with them those found first: a repair may let the network fail earlier.
        """
        length = getattr(self.modules[start.module], start.name).shape[start.dim]
        channel = start.gone[0]
        # Other tensors of the layer may belong to the channel too.
        todo = [
            (start, *m)
            for m in (*self._options(start.module, length, channel, (start,)), ())
        ]
        waiting: list[_State] = []
        known: set[frozenset[Edit]] = set()
        while runs > 0 and not self.late() and (todo or waiting):
            if not todo:
                state = min(waiting, key=_best) if runs % 2 else waiting[0]
                waiting.remove(state)
                todo = [
                    (*state.edits, *more)
                    for place in state.repair
                    for more in self._options(place, length, channel, state.edits)
                ]
                continue
            edits = todo.pop(0)
            if frozenset(edits) in known or len(edits) > _EDITS:
                continue
            known.add(frozenset(edits))
            runs -= 1
            state = self._tried(edits)
            if not state.failed:
                if self._is_exact(edits):
                    return edits
                continue
            waiting.append(state)
        return ()

    def _options(
        self, name: str, length: int, channel: int, edits: Edits
    ) -> list[Edits]:
        """Return the ways to remove the channel from one module, beside ``edits``."""
        taken = {edit.where for edit in edits}
        found = ways(name, self.modules[name], length, channel)
        rest = [tuple(e for e in way if e.where not in taken) for way in found]
        return [way for way in dict.fromkeys(rest) if way]

    def _tried(self, edits: Edits) -> "_State":
        """Run the shortened network.

        To repair is first the module that failed and the one around it, then those that
        ran before, the latest first: a sum fails where an operand was not shortened.
        """
        inside: list[str] = []
        ran: list[str] = []
        hooks = []
        for name, module in self.modules.items():
            hooks.append(module.register_forward_pre_hook(_enter(name, inside)))
            hooks.append(module.register_forward_hook(_leave(name, inside, ran)))
        failed = False
        try:
            with shortened(self.modules, edits):
                outputs(self.dense, self.batches[0])
        except Exception:
            failed = True
        finally:
            for hook in hooks:
                hook.remove()
        repair = tuple(dict.fromkeys([*inside[::-1][:2], *ran[::-1]]))
        return _State(edits=edits, failed=failed, progress=len(ran), repair=repair)

    def _is_exact(self, edits: Edits) -> bool:
        with zeroed(self.modules, edits):
            wanted = [outputs(self.dense, batch) for batch in self.batches]
        changes = [distance(*both) for both in zip(self.whole, wanted, strict=True)]
        if not max(changes) > _MATTERS:
            return False
        try:
            with shortened(self.modules, edits):
                found = [outputs(self.dense, batch) for batch in self.batches]
        except Exception:  # the larger batch may fail alone
            return False
        return all(distance(*both) <= LIMIT for both in zip(wanted, found, strict=True))


def _best(state: _State) -> tuple[int, int]:
    return -state.progress, len(state.edits)


def _enter(name: str, inside: list[str]) -> Callable[..., None]:
    def hook(*_: object) -> None:
        inside.append(name)

    return hook


def _leave(name: str, inside: list[str], ran: list[str]) -> Callable[..., None]:
    def hook(*_: object) -> None:
        inside.remove(name)
        ran.append(name)

    return hook
