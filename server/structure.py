"""The structure that a run is about: what its configuration lets go of a network."""

from torch import nn

from common.errors import ConfigError
from common.pruning.structure import Structure
from common.pruning.trace import find_structure
from common.task import Task


def structure_of(task: Task, model: nn.Module) -> Structure:
    """Return the structure of a task's dense network, with blocks where some may go.

    Raises:
        StructureError: If its channels cannot be followed.
        ConfigError: If blocks may go and the network has none.
    """
    config = task.config
    structure = find_structure(
        model,
        task.example(),
        ignore=config.task.ignore,
        blocks=config.prune.blocks > 0,
    )
    if config.prune.blocks > 0 and not structure.blocks:
        msg = f"prune.blocks is {config.prune.blocks}, and no block of the network can"
        msg += " be dropped; want 0 (common.pruning.blocks says what a block is)"
        raise ConfigError(msg)
    return structure
