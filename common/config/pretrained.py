"""Settings that follow what a run starts from: pretrained weights, or fresh ones."""

from typing import Final

from fedprune.common.config.schema import Config
from fedprune.common.config.sections import Task
from fedprune.common.methods.kinds import AUTO
from fedprune.common.methods.registry import OFF
from fedprune.common.user_code import MODEL_LIBRARIES, RANDOM, split_blocks

FRESH_PENALTY: Final = "bn-l1+group"


def is_pretrained(task: Task) -> bool:
    """Return whether a run starts from pretrained weights, as far as its keys say.

    They do for ``task.weights`` and for a network of a library without ``@random``;
    what code of the user loads is not known.
    """
    whole, _ = split_blocks(task.model)
    named = whole.partition(":")[0] in MODEL_LIBRARIES and not whole.endswith(RANDOM)
    return bool(task.weights) or named


def penalty_of(config: Config) -> str:
    """Return the penalty of a run, with "auto" replaced by a method's name.

    Pretrained weights have none: it moves weights that are needed.
    """
    penalty = config.client.penalty
    if penalty != AUTO:
        return penalty
    return OFF if is_pretrained(config.task) else FRESH_PENALTY
