"""The bases of all events, and the types of their fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

from fedprune.common.config import ControlName

RunName: TypeAlias = Literal["main", ControlName]
MAIN: Final = "main"
DENSE: Final = "dense"


@dataclass(frozen=True, slots=True)
class Within:
    """Bounds of a number, both included.

    Attributes:
        least: The smallest one.
        most: The greatest one; None = no bound.
    """

    least: float
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Usual:
    """The value that most events of a kind have; their lines leave the field out.

    Attributes:
        value: That value, as JSON has it.
    """

    value: object


Count: TypeAlias = Annotated[int, Within(0)]
Reason: TypeAlias = Annotated[str, Usual("")]
Rare: TypeAlias = Annotated[int, Within(0), Usual(0)]  # mostly nothing to count
Share: TypeAlias = Annotated[float, Within(0, 1)]
Seconds: TypeAlias = Annotated[float, Within(0)]
Bit: TypeAlias = Annotated[int, Within(0, 1)]
Settings: TypeAlias = Mapping[str, object]  # any JSON object


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfRound(Event):
    """An event of a round: a resume before that round drops it.

    Attributes:
        run: The federation, or one of its controls.
        round: Number of the round, from 1; 0 = before the first.
    """

    run: Annotated[RunName, Usual("main")]
    round: Count
