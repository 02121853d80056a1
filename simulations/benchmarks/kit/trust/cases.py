"""A federation of the benchmark ``trust``: network, data, attack and defence."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.methods.attack import BACKDOOR
from fedprune.common.methods.kinds import AGGREGATION, ATTACK
from fedprune.common.methods.registry import OFF, methods
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.ended import ended
from fedprune.simulations.benchmarks.kit.trust import networks

CLIENTS = 10
DEFAULT = "mean"  # the aggregation rule of the defaults
TIGHT = "tight"  # that of the defaults under tighter bounds
PLAIN = "plain"  # dense FedAvg without a bound on any client
TIGHTER: Mapping[str, object] = {"robust.max_weight": 1.0, "robust.max_norm": 1.25}

_NETWORKS: Mapping[str, Mapping[str, object]] = {
    "lenet": {
        "task.model": "lenet5",
        "task.data": f"{networks.__name__}:whole",
    },
    "norm": {
        "task.model": f"{networks.__name__}:norm_net",
        "task.data": f"{networks.__name__}:halved",
    },
}
_SPLITS: Mapping[str, Mapping[str, object]] = {
    "iid": {"task.partition": {"kind": "iid"}},
    "dirichlet": {"task.partition": {"kind": "dirichlet", "alpha": 0.5}},
}
_SCHEDULE: Mapping[str, object] = {
    "task.clients": CLIENTS,
    "rounds.warmup": 5,
    "rounds.sparsify": 1,
    "rounds.finetune": 2,
    "rounds.cuts": 1,
    "rounds.final": 3,
    "prune.budget": {"channel_density": 0.5},
    "prune.step_cap": 0.75,
    "prune.width_multiple": 1,
}
UNBOUNDED: Mapping[str, object] = {
    "robust.max_norm": 0.0,
    "robust.max_weight": 0.0,
    "robust.max_moment": 0.0,
}
_PLAIN: Mapping[str, object] = {
    **UNBOUNDED,
    "rounds.warmup": 11,
    "rounds.cuts": 0,
    "rounds.final": 0,
    "client.penalty": "none",
    "update.update_density": 1.0,
    "update.values": "float32",
    "broadcast.values": "float32",
}
_KEPT = (
    "accuracy_final",
    "backdoor_success",
    "rounds",
    "rollbacks",
    "refused",
    "bytes_up",
    "bytes_down",
    "model_sha256",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A federation.

    Attributes:
        network: "lenet" (LeNet-5, 28 x 28) or "norm" (batch norm, 14 x 14).
        split: "iid" or "dirichlet" (0.5).
        rule: Aggregation rule, "tight" for the default one under tighter bounds, or
            "plain" for dense FedAvg without bounds.
        attack: Name of the attack, or "none".
        hostile: Hostile clients, of 10.
        scale: As ``attack.scale``; 0 = the attack's own.
        bounds: Whether the default bounds on each client hold.
    """

    network: str
    split: str
    rule: str = DEFAULT
    attack: str = OFF
    hostile: int = 1
    scale: float = 0.0
    bounds: bool = True

    @property
    def honest(self) -> "Case":
        """The same federation without hostile clients."""
        return replace(self, attack=OFF, hostile=1, scale=0.0)

    @property
    def name(self) -> str:
        """Its name among the pieces of a row, without the seed."""
        parts = [self.network, self.split, self.attack, self.rule]
        parts += [f"{self.hostile}-hostile"] if self.hostile > 1 else []
        parts += [f"x{self.scale:g}"] if self.scale else []
        parts += [] if self.bounds else ["unbounded"]
        return "-".join(parts)

    @property
    def settings(self) -> dict[str, object]:
        """Its configuration."""
        found = {**_SCHEDULE, **_NETWORKS[self.network], **_SPLITS[self.split]}
        if self.rule == PLAIN:
            found |= _PLAIN
        elif self.rule == TIGHT:
            found |= {"robust.aggregate": DEFAULT, **TIGHTER}
        else:
            found["robust.aggregate"] = self.rule
        if not self.bounds:
            found |= UNBOUNDED
        if self.attack != OFF:
            needs = methods(ATTACK)[self.attack].needs
            found |= {
                "attack.kind": self.attack,
                "attack.clients": float(self.hostile),
                "attack.scale": self.scale,
                # One hostile client alone has no statistics of others.
                "attack.omniscient": "seen" in needs,
            }
        return found


def measured(case: Case, seed: int) -> Raw:
    """Run a federation; one that ends without a network has accuracy 0 and a reason.

    Raises:
        ConfigError: If the configuration itself is wrong.
    """
    before = time.process_time()
    try:
        with ended(case.settings, seed) as run:
            found = run.figures(*_KEPT)
    except ConfigError:
        raise
    except FedPruneError as error:
        return {"accuracy_final": 0.0, "backdoor_success": None, "ended": str(error)}
    return found | {"seconds": round(time.process_time() - before, 2)}


def rules() -> tuple[str, ...]:
    """Return the default rule, that under tighter bounds, the others, plain FedAvg."""
    others = [name for name in methods(AGGREGATION) if name != DEFAULT]
    return (DEFAULT, TIGHT, *others, PLAIN)


def on_scores() -> tuple[str, ...]:
    """Return the attacks on the importance."""
    return tuple(name for name in methods(ATTACK) if name.startswith("scores-"))


def on_deltas() -> tuple[str, ...]:
    """Return the attacks on the delta, by itself or by the data: a rule may help."""
    besides = ("scores-", "moments", "validation-")
    return tuple(name for name in methods(ATTACK) if not name.startswith(besides))


def boost(attack: str, hostile: int) -> float:
    """Return the scale of an attack: a backdoor replaces the model of the mean."""
    return CLIENTS / hostile if attack == BACKDOOR else 0.0
