"""The structure that a run is about: what its configuration lets go of a network."""

from collections.abc import Callable

from torch import nn

from common.errors import ConfigError, PayloadError, StructureError
from common.messages import Mask
from common.models.buffers import check_buffers
from common.pruning.structure import Structure
from common.pruning.trace import find_structure
from common.pruning.verify import check_cut, check_exact
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


def tried_structure(task: Task, model: nn.Module) -> Structure:
    """Return the structure of a network that was tried: what a run may start with.

    Raises:
        StructureError: If its channels cannot be followed, clients could not read the
            structure, or a cut network does not compute or learn what the dense one
            does.
        ConfigError: If blocks may go and the network has none, it does not run in
            training mode, or training changes what no client sends.
    """
    structure = structure_of(task, model)
    try:
        Structure.from_json(structure.to_json())
    except PayloadError as error:
        msg = f"clients could not read the structure of the network: {error}"
        raise StructureError(msg) from error
    check_buffers(model, task.example())
    if task.config.rounds.cuts > 0:
        check_exact(model, structure, task.example())
    return structure


def cut_check(task: Task, structure: Structure) -> Callable[[Mask], None]:
    """Return what tries the mask of a cut before it becomes the state of a run.

    It raises StructureError with the groups that it is about, and changes nothing.
    """

    def check(keep: Mask) -> None:
        check_cut(task.build_model(), structure, task.example(), keep)

    return check
