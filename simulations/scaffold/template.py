"""A project that ``fedprune init`` can write."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

CONFIG, TASK = "fedprune.toml", "my_task.py"

HEAD = """\
# A federation with a network and data of its own; run it:
#     fedprune simulate fedprune.toml
# Lines that begin with "#" and no space are the defaults; take the "#" away to change
# one.  "fedprune simulate --set key=value" changes one for a single run.
"""

Set: TypeAlias = Mapping[tuple[str, str], object]


def _no_data() -> dict[str, bytes]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Project that ``fedprune init`` writes.

    Attributes:
        values: Keys that are set; the others are comments with their defaults.
        head: First lines of the configuration.
        files: Name -> content of the files beside the configuration.
        data: Makes small data to start with, name -> content.
        next: The next command, "{}" = the path of the configuration.
    """

    values: Set
    head: str = HEAD
    files: Mapping[str, str] = field(default_factory=dict)
    data: Callable[[], Mapping[str, bytes]] = _no_data
    next: str = "fedprune simulate {}"
