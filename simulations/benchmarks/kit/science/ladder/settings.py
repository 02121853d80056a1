"""The runs of the row: two ladders of sizes on MNIST, each with its rival.

*Equal labels*: 100 clients with equal random parts, ten of them a round.  ``pruned`` is
cut from the slice c of HeteroFL to the parameters of the slices d and e; ``slice`` is
dense FedAvg of that slice over as many rounds.

*Two classes*: 100 clients of two classes each, ten of them a round, the perceptron of
two layers of 128, and as many stored values as FedSparsify keeps.  ``channels`` is cut
to them; ``masked`` is cut to 35 % of the parameters, and a mask of single weights goes
further; ``fedsparsify`` masks alone: the smallest weights of all layers, cubic in the
rounds (Stripelis et al. 2022, arXiv:2204.12430, the server's mask).  All have the same
local training, server optimiser and rounds, but for cuts that the guard takes back.

Settings of FedSparsify's half were chosen on the last 10 000 training images, with the
seed 10.  Those of HeteroFL's half follow from one run there and were not tried as they
are; ``fedsparsify``, the rival, was not tuned.
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
TWO = ("channels", "masked")
TWO_GOAL = ">= 88"
TWO_PUBLISHED = "87.84, 12 068 values other than 0, 156.6 MB up: our FedSparsify-Global"
TWO_PUBLISHED += " in plain SGD of 0.02, 100 rounds of 4 epochs, one seed"
_MLP, _BIASES = 118_282, 266  # parameters of the perceptron, and its biases

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
    "client.epochs": 2,
    "client.validation": 0.05,
}
_CUT_ROUNDS, _CUT_FINAL = 60, 40
_CUT: Settings = {
    **_EQUAL,
    "task.model": f"{networks.__name__}:{networks.level_c.__name__}",
    "rounds.warmup": 12,
    "rounds.sparsify": 1,
    "rounds.finetune": 1,
    "rounds.cuts": 4,
    "rounds.final": _CUT_FINAL,
    "prune.schedule": "geometric",
    "prune.step_cap": 0.6,
    "prune.width_multiple": 1,
    "prune.max_loss_increase": 4.0,
    "update.update_density": 1.0,
    "distill.teacher": "dense",
    "distill.weight": 0.5,
}

_TWO: Settings = {
    **_CLIENTS,
    "task.model": "mlp",
    "task.partition": {"kind": "shards", "classes": 2},
    "client.epochs": 2,
    "client.validation": 0.05,
    "client.momentum": 0.0,
    "server.optimizer": "momentum",
    "server.momentum": 0.8,
}
_TWO_CUT: Settings = {
    **_TWO,
    "rounds.sparsify": 1,
    "rounds.finetune": 2,
    "client.penalty": "group",
    "prune.schedule": "geometric",
    "prune.step_cap": 0.6,
    "prune.width_multiple": 1,
    "update.update_density": 0.35,
    "update.min_entries": 12_500,
    "distill.teacher": "dense",
    "distill.weight": 0.5,
}
_TWO_ROUNDS = 100


def pruned(level: Level) -> Settings:
    """Return the run that is cut to the size of a slice."""
    dense = networks.PARAMETERS[networks.level_c]
    return {**_CUT, "prune.budget": {"params": level.params / dense}}


def sliced(level: Level) -> Settings:
    """Return dense FedAvg of a slice, over the rounds of ``pruned``.

    It has as many final rounds, of which the last third has frozen batch norms.
    """
    model = f"{networks.__name__}:{level.make.__name__}"
    warmup = _CUT_ROUNDS - _CUT_FINAL
    rounds = {"rounds.warmup": warmup, "rounds.final": _CUT_FINAL}
    return {**_EQUAL, **_DENSE, **rounds, "task.model": model}


def channels() -> Settings:
    """Return the run of two classes a client whose cuts alone meet the size."""
    rounds = {"rounds.warmup": 30, "rounds.cuts": 6, "rounds.final": 52}
    return {**_TWO_CUT, **rounds, "prune.budget": {"params": STORED / _MLP}}


def masked() -> Settings:
    """Return the run whose cuts go to 35 % of the parameters and a mask further."""
    rounds = {"rounds.warmup": 25, "rounds.cuts": 3, "rounds.final": 66}
    mask = {"kind": "unstructured", "density": 0.288, "end": 34, "frequency": 3}
    return {
        **_TWO_CUT,
        **rounds,
        "prune.budget": {"params": 0.35},
        "prune.mask": mask,
    }


def fedsparsify() -> Settings:
    """Return FedSparsify over 100 rounds: masks alone, from round 1."""
    # Biases, 266 of them, are not masked.
    density = (STORED - _BIASES) / (_MLP - _BIASES)
    mask = {"kind": "unstructured", "density": density, "end": _TWO_ROUNDS}
    rounds = {"rounds.warmup": 0, "rounds.final": _TWO_ROUNDS}
    return {**_TWO, **_DENSE, **rounds, "prune.mask": mask}


RUNS: Mapping[str, Settings] = {
    "channels": channels(),
    "masked": masked(),
    "fedsparsify": fedsparsify(),
    **{
        f"{kind}-{name}": form(level)
        for name, level in LEVELS.items()
        for kind, form in (("pruned", pruned), ("slice", sliced))
    },
}
