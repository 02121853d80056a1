"""Configurations of the controls: the same code, network and data under other keys."""

from collections.abc import Callable, Mapping

from fedprune.common.config import Config, MaskRule, Quantise, Rounds
from fedprune.common.pruning.cost import shares
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.spec import Mask
from fedprune.common.structure.structure import Structure
from fedprune.server.rounds.cut import budget_targets, within_budget
from fedprune.server.runs.controls.names import kind_of


def control_config(name: str, config: Config, rounds: int) -> Config:
    """Return the configuration of a control.

    Args:
        name: Its name.
        config: The run that is compared.
        rounds: Rounds that the control gets, its closing round included, >= 2.
    """
    return _CONFIGS[kind_of(name)](config, rounds)


def at_reached_size(
    config: Config, structure: Structure, latency: LatencyTable | None, keep: Mask
) -> Config:
    """Return the configuration with a budget that the run's final network meets.

    Where ``prune.max_accuracy_drop`` ended the cuts above the budget, a control within
    that budget would not have the size of the run.

    Args:
        config: The run that is compared.
        structure: The original network.
        latency: Table for a latency in the budget, or None.
        keep: Keep mask of its final network, bool[units].
    """
    if within_budget(structure, config, latency, keep):
        return config
    reached = shares(structure, keep, latency)
    asked = budget_targets(config)
    budget = {
        kind: max(share, min(reached[kind], 1.0)) for kind, share in asked.items()
    }
    prune = config.prune
    changed = prune.model_copy(
        update={"budget": prune.budget.model_copy(update=budget)}
    )
    return config.model_copy(update={"prune": changed})


def dense_config(config: Config, rounds: int) -> Config:
    """Return the configuration of dense FedAvg over a number of rounds.

    Same network, data, clients, cohorts and local training; no penalty, no cut, no
    teacher; float32 messages with every weight, both ways.  Where the run rewinds the
    learning rate for its cuts, the control has nothing to rewind for.

    Args:
        config: The run that is compared.
        rounds: Rounds of the control, the closing round included.
    """
    plain = _uncut(config, rounds)
    update = {"update_density": 1.0, "values": "float32", "error_feedback": False}
    return plain.model_copy(
        update={
            "update": plain.update.model_copy(update=update),
            "broadcast": plain.broadcast.model_copy(update={"values": "float32"}),
            "quantise": Quantise(),
            "prune": plain.prune.model_copy(update={"mask": MaskRule()}),
        }
    )


def fresh_config(config: Config, rounds: int) -> Config:
    """Return the configuration of a small network that is trained from fresh weights.

    The run's own messages and weight mask; no cut, penalty, guard or teacher, and one
    learning-rate schedule over all rounds.  Frozen modules are trained as well: fresh
    weights that nothing trains would be no comparison.
    """
    plain = _uncut(config, rounds)
    task = plain.task.model_copy(update={"freeze": ()})
    return plain.model_copy(update={"task": task})


def one_shot_config(config: Config, rounds: int) -> Config:
    """Return the configuration of one cut straight to the budget, then fine-tuning.

    The run's warmup, criterion, messages, weight mask and teacher; no penalty, no step
    cap, no reconstruction, and no guard, since no fine-tune round before the final ones
    follows the cut.
    """
    trained = rounds - 1
    warmup = max(min(config.rounds.warmup, trained - 1), 0)
    lengths = {
        "warmup": warmup,
        "sparsify": 1,
        "cuts": 1,
        "finetune": 0,
        "final": trained - warmup - 1,
    }
    changed = _of_length(config, lengths)
    plain = {"step_cap": 1.0, "restart": "keep", "reconstruct": False}
    prune = changed.prune.model_copy(update=plain)
    return changed.model_copy(
        update={"prune": prune, "client": _without_penalty(changed)}
    )


_CONFIGS: Mapping[str, Callable[[Config, int], Config]] = {
    "dense": dense_config,
    "scratch": fresh_config,
    "uniform": fresh_config,
    "one-shot": one_shot_config,
}


def _uncut(config: Config, rounds: int) -> Config:
    """Return a configuration without cuts, penalty, teacher and rewinding."""
    trained = rounds - 1
    # A round comes before the first mask: it is none of weights that were just drawn.
    final = min(config.rounds.final, max(trained - 1, 1))
    lengths = {"warmup": trained - final, "cuts": 0, "final": final}
    changed = _of_length(config, lengths)
    return changed.model_copy(
        update={
            "client": _without_penalty(changed, lr_rewind=0.0),
            "distill": changed.distill.model_copy(update={"weight": 0.0}),
            "prune": changed.prune.model_copy(update={"restart": "keep"}),
        }
    )


def _without_penalty(config: Config, **others: object) -> object:
    change = {"penalty": "none", "strength": 0.0, **others}
    return config.client.model_copy(update=change)


def _of_length(config: Config, lengths: Mapping[str, int]) -> Config:
    """Return a configuration of other phases; its weight mask stays within the end."""
    rounds: Rounds = config.rounds.model_copy(update=lengths)
    rule, last = config.prune.mask, max(rounds.final, 1)
    begin, end = min(rule.begin, last), min(rule.end, last)
    mask = rule.model_copy(update={"begin": begin, "end": end})
    change = {"mask": mask, "max_accuracy_drop": None}
    tuned = min(config.quantise.rounds, last)
    return config.model_copy(
        update={
            "rounds": rounds,
            "prune": config.prune.model_copy(update=change),
            "quantise": config.quantise.model_copy(update={"rounds": tuned}),
        }
    )
