"""The rounds that a tracker has of a run: a file that a resumed run reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from fedprune.common.config import ControlName
from fedprune.common.errors import IntegrityError
from fedprune.common.system.atomic import write_json_atomic
from fedprune.common.system.json_file import read_json
from fedprune.server.runs.events import MAIN, RunName

_CONTROLS: tuple[ControlName, ...] = get_args(ControlName)
_NAMES: Mapping[str, RunName] = {MAIN: MAIN, **{name: name for name in _CONTROLS}}


@dataclass(slots=True)
class Done:
    """The rounds that a tracker has of a run; written after each round that it took.

    Attributes:
        path: The file.
        token: The tracker's own name of the run; "" before its start.
        rounds: Federation -> its last round.
    """

    path: Path
    token: str = ""
    rounds: dict[RunName, int] = field(default_factory=dict)

    def has(self, run: RunName, round_: int) -> bool:
        """Return whether the tracker has a round."""
        return round_ <= self.rounds.get(run, 0)

    def write(self) -> None:
        """Write it."""
        write_json_atomic(self.path, {"token": self.token, "rounds": self.rounds})


def read_done(path: Path) -> Done:
    """Return what a file says; nothing is done where there is none.

    Raises:
        IntegrityError: If it is not such a file.
    """
    if not path.exists():
        return Done(path)
    match read_json(path):
        case {"token": str(token), "rounds": dict(rounds)} if all(
            key in _NAMES and isinstance(last, int) for key, last in rounds.items()
        ):
            known = {_NAMES[str(key)]: int(last) for key, last in rounds.items()}
            return Done(path, token, known)
    msg = f"{path}: not the state of a tracker; remove it to start the tracker anew"
    raise IntegrityError(msg)
