"""Training of a network as a card tells it: public names, no places."""

import re
from dataclasses import dataclass
from pathlib import Path

from fedprune.common.config import Config, own_methods
from fedprune.common.data.places import KNOWN
from fedprune.common.methods.kinds import PENALTY
from fedprune.common.models.registry import NETWORKS
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.trust import code_of_model
from fedprune.common.user_code import MODEL_LIBRARIES, PYTHON, split_blocks
from fedprune.server.rounds.cut import aimed_penalty

OWN = "own code"

_KINDS = {
    "npz": "arrays in a file",
    "folder": "a folder of images",
    "parquet": "parquet files",
}
_HUB = "hf-dataset"
# A name on a hub, which no path is: it has no dot or slash in front, one slash at most.
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?(@\w+)?(\[[^/\\]*\])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Facts of a training that a card may use.

    Attributes:
        config: The configuration; its texts may name files and are not told.
        model: Name of the network, as its file has it.
        own_data: Whether code of the user's own made the data.
        own_loss: Whether code of the user's own is the loss.
    """

    config: Config
    model: str
    own_data: bool
    own_loss: bool

    @property
    def own_network(self) -> bool:
        """True if only code of the user's own makes the network."""
        return self.model == PYTHON or bool(code_of_model(self.model))

    @property
    def public_model(self) -> str:
        """The network's name; "" of own code and of a place, for they name files."""
        library, _, name = self.model.rpartition(":")
        if not library:
            return name if split_blocks(name)[0] in NETWORKS else ""
        known = library in MODEL_LIBRARIES and _is_public(name)
        return self.model if known else ""

    @property
    def data(self) -> str:
        """The name of the data; only their kind where a name is a place."""
        if self.own_data:
            return OWN
        kind, colon, name = self.config.task.data.partition(":")
        if not colon:
            return kind if kind in KNOWN else OWN
        if kind == _HUB and _is_public(name):
            return f"{kind}:{name}"
        return _KINDS.get(kind, OWN)

    @property
    def loss(self) -> str:
        """The loss."""
        return OWN if self.own_loss else self.config.task.loss

    def method(self, key: str) -> str:
        """Return the method of a key such as "prune.importance"."""
        if key in own_methods(self.config):
            return OWN
        if key == PENALTY.key:
            return aimed_penalty(self.config)
        section, name = key.split(".")
        return str(getattr(getattr(self.config, section), name))


def trained_by(task: LoadedTask) -> Trained:
    """Return the training of a task."""
    return Trained(
        config=task.config,
        model=task.model_name,
        own_data=task.task.has_own_data,
        own_loss=task.task.has_own_loss,
    )


def _is_public(name: str) -> bool:
    """Return whether a name is one on a hub; "a/b" may be a folder of this machine."""
    return bool(_HUB_NAME.fullmatch(name)) and not Path(name).exists()
