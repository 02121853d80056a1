"""The runs of the row: two ladders of sizes on MNIST, each with its rival.

*Equal labels*: 100 clients with equal random parts, ten of them a round.  ``pruned`` is
cut from the slice b of HeteroFL to the parameters of the slices d and e; ``slice`` is
dense FedAvg of that slice over as many rounds.

*Two classes*: 100 clients of two classes each, ten of them a round, the perceptron of
two layers of 128.  ``shards`` is cut to the weights that FedSparsify keeps;
``fedsparsify`` sets weights to zero, the smallest ones of all layers (Stripelis et al.
2022, arXiv:2204.12430: the server's mask, cubic in the rounds), over as many rounds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedprune.simulations.benchmarks.kit.science.ladder import networks

Settings = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A slice of HeteroFL and what a network of its size must reach.

    Attributes:
        make: Builds it.
        goal: Goal of the pruned network's test accuracy in %.
        published: Test accuracy of ``baselines/heterofl`` of Flower, in words.
    """

    make: Callable[[], networks.Slice]
    goal: str
    published: str

    @property
    def params(self) -> int:
        """Its parameters."""
        return networks.PARAMETERS[self.make]


_SOURCE = "HeteroFL in Flower, 60 000 images, 200 rounds of 5 epochs"
LEVELS: Mapping[str, Level] = {
    "d": Level(make=networks.level_d, goal=">= 99.2", published=f"99.07: {_SOURCE}"),
    "e": Level(make=networks.level_e, goal=">= 98.9", published=f"98.46: {_SOURCE}"),
}
STORED = 12_100  # values that the network of two classes a client may store
MEGABYTES_UP = 15
TWO_GOAL = ">= 88"
TWO_PUBLISHED = "87.84, 12 068 values other than 0, 156.6 MB up: our FedSparsify-Global"
TWO_PUBLISHED += " in plain SGD of 0.02, 100 rounds of 4 epochs, one seed"
_MLP = 118_282  # parameters of the perceptron

_CLIENTS: Settings = {"task.data": "mnist", "task.clients": 100, "rounds.cohort": 10}

# Dense FedAvg in float32, of the network as it is.
_DENSE: Settings = {
    "rounds.cuts": 0,
    "client.penalty": "none",
    "client.strength": 0.0,
    "update.update_density": 1.0,
    "update.values": "float32",
    "update.error_feedback": False,
    "broadcast.values": "float32",
}

_EQUAL: Settings = {
    **_CLIENTS,
    "task.partition": {"kind": "iid"},
    "client.epochs": 1,
    "client.validation": 0.05,
}
_CUT: Settings = {
    **_EQUAL,
    "task.model": f"{networks.__name__}:{networks.level_b.__name__}",
    "rounds.warmup": 10,
    "rounds.sparsify": 1,
    "rounds.finetune": 1,
    "rounds.cuts": 5,
    "rounds.final": 40,
    "prune.schedule": "geometric",
    "prune.step_cap": 0.6,
    "prune.width_multiple": 1,
    "update.update_density": 0.15,
    "update.min_entries": 7000,
}
_CUT_ROUNDS = 60

_TWO: Settings = {
    **_CLIENTS,
    "task.model": "mlp",
    "task.partition": {"kind": "shards", "classes": 2},
    "client.epochs": 4,
    "client.validation": 0.05,
}
_TWO_CUT: Settings = {
    **_TWO,
    "rounds.warmup": 20,
    "rounds.sparsify": 1,
    "rounds.finetune": 2,
    "rounds.cuts": 6,
    "rounds.final": 62,
    "prune.budget": {"params": STORED / _MLP},
    "prune.schedule": "geometric",
    "prune.step_cap": 0.6,
    "prune.width_multiple": 1,
}
_TWO_ROUNDS = 100


def pruned(level: Level) -> Settings:
    """Return the run that is cut to the size of a slice."""
    dense = networks.PARAMETERS[networks.level_b]
    return {**_CUT, "prune.budget": {"params": level.params / dense}}


def sliced(level: Level) -> Settings:
    """Return dense FedAvg of a slice, over the rounds of ``pruned``."""
    model = f"{networks.__name__}:{level.make.__name__}"
    rounds = {"rounds.warmup": _CUT_ROUNDS - 1, "rounds.final": 1}
    return {**_EQUAL, **_DENSE, **rounds, "task.model": model}


def shards() -> Settings:
    """Return the run of two classes a client."""
    return _TWO_CUT


def fedsparsify() -> Settings:
    """Return FedSparsify over the rounds of ``shards``: masks alone, from round 1."""
    mask = {"kind": "unstructured", "density": STORED / _MLP, "end": _TWO_ROUNDS}
    rounds = {"rounds.warmup": 0, "rounds.final": _TWO_ROUNDS}
    return {**_TWO, **_DENSE, **rounds, "prune.mask": mask}


RUNS: Mapping[str, Settings] = {
    "shards": shards(),
    "fedsparsify": fedsparsify(),
    **{
        f"{kind}-{name}": form(level)
        for name, level in LEVELS.items()
        for kind, form in (("pruned", pruned), ("slice", sliced))
    },
}
