"""The runs of the row, and the pairs of them that are compared.

Every run is the base with one key, or one small set of keys, changed.  The base is the
default configuration on another task, down to 5 % of the parameters in 22 rounds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fedprune.simulations.benchmarks.kit.science import images
from fedprune.simulations.benchmarks.kit.science.classics import networks

Settings = Mapping[str, object]

SMALL = 0.05  # of the parameters stay
BASE = "base"
NONE = "no-penalty"
BASICS: Settings = {
    "task.data": f"{images.__name__}:small_mnist",
    "task.model": f"{networks.__name__}:SmallResidual",
    "task.partition": {"kind": "dirichlet", "alpha": 0.5},
    "task.clients": 20,
    "rounds.warmup": 6,
    "rounds.sparsify": 1,
    "rounds.finetune": 1,
    "rounds.cuts": 4,
    "rounds.final": 8,
    "rounds.cohort": 10,
    "client.epochs": 1,
    "prune.budget": {"params": SMALL},
    "prune.step_cap": 0.6,
    "prune.width_multiple": 1,
}
# A mask that keeps half of the weights wants a larger network.  Twice as large would
# be as many weights, but a file longer by a fifth: positions are stored too.
_PATTERN: Settings = {"prune.budget": {"params": 0.08}}
_HALF: Settings = {"prune.budget": {"params": 0.075}, "prune.mask.density": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One part of the system, switched on and off.

    Attributes:
        name: The part.
        on: Name of the run with it.
        off: Name of the run without it, or with its alternative.
        note: How the two compare, where that is not obvious.
    """

    name: str
    on: str
    off: str = BASE
    note: str = ""


RUNS: Mapping[str, Settings] = {
    BASE: {},
    NONE: {"client.penalty": "none"},
    "bn": {"client.penalty": "bn-l1"},
    "group": {"client.penalty": "group"},
    "l1-group": {"client.penalty": "l1+group"},
    "l1": {"client.penalty": "l1"},
    "l0": {"client.penalty": "l0"},
    "targeted-dropout": {"client.penalty": "targeted-dropout"},
    "fisher": {"prune.importance": "fisher"},
    "activation-mean": {"prune.importance": "activation-mean"},
    "activation-variance": {"prune.importance": "activation-variance"},
    "sensitivity": {"prune.importance": "sensitivity"},
    "random": {"prune.importance": "random"},
    "mask-2-4": {**_PATTERN, "prune.mask": {"kind": "n:m", "n": 2, "m": 4}},
    "mask-entries": {"prune.mask.kind": "unstructured", **_HALF},
    "mask-blocks": {"prune.mask.kind": "blocks", "prune.mask.block": 4, **_HALF},
    "drop-blocks": {"prune.blocks": 2},
    "no-average": {"prune.ema": 0.0},
    "distill-previous": {"distill.weight": 0.5},
    "distill-dense": {"distill.weight": 0.5, "distill.teacher": "dense"},
    "distill-strong": {"distill.weight": 0.9, "distill.temperature": 4.0},
    "no-feedback": {"update.error_feedback": False},
    "magnitude": {"update.choice": "magnitude"},
    "rewind": {"client.lr_rewind": 0.05},
    "constant": {"client.lr_schedule": "constant"},
}
_EQUAL = "files about as long, so the masked network is larger"
SWITCHES = (
    Switch(name="penalty bn-l1+group", on=BASE, off=NONE),
    Switch(name="BN slimming (penalty bn-l1)", on="bn", off=NONE),
    Switch(name="group lasso", on="group", off=NONE),
    Switch(name="l1 and group lasso", on="l1-group", off=NONE),
    Switch(name="l1 penalty", on="l1", off=NONE),
    Switch(name="L0 gates", on="l0", off=NONE),
    Switch(name="targeted dropout", on="targeted-dropout", off=NONE),
    Switch(name="fisher, not taylor", on="fisher"),
    Switch(name="activation mean, not taylor", on="activation-mean"),
    Switch(name="activation variance, not taylor", on="activation-variance"),
    Switch(name="sensitivity, not taylor", on="sensitivity"),
    Switch(
        name="taylor, not random",
        on=NONE,
        off="random",
        note="both without a penalty, which random channels have not",
    ),
    Switch(name="2:4 mask", on="mask-2-4", note=_EQUAL),
    Switch(name="unstructured mask, a half", on="mask-entries", note=_EQUAL),
    Switch(name="mask of 4 x 4 blocks, a half", on="mask-blocks", note=_EQUAL),
    Switch(name="dropping of residual blocks", on="drop-blocks"),
    Switch(name="EMA of the importance", on=BASE, off="no-average"),
    Switch(name="distillation, previous network", on="distill-previous"),
    Switch(name="distillation, dense network", on="distill-dense"),
    Switch(name="distillation, previous network, strong", on="distill-strong"),
    Switch(name="error feedback", on=BASE, off="no-feedback"),
    Switch(name="choice by rate, not by magnitude", on=BASE, off="magnitude"),
    Switch(name="rewound learning rate", on="rewind"),
    Switch(name="cosine, not constant learning rate", on=BASE, off="constant"),
)
