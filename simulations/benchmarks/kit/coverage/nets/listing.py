"""The whole list of networks, in its order."""

from fedprune.simulations.benchmarks.kit.coverage.nets import (
    huggingface,
    own_branches,
    own_code,
    own_conv,
    own_sequence,
    own_tokens,
    own_wiring,
    timm,
    torchvision,
)
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import Entry

_FILES = (
    *(timm, torchvision, huggingface),
    *(own_conv, own_branches, own_tokens, own_sequence, own_wiring, own_code),
)


def all_entries() -> dict[str, Entry]:
    """Return every network of the list, by its key ``ORIGIN/NAME``."""
    found = [entry for file in _FILES for entry in file.entries()]
    return {entry.key: entry for entry in found}
