"""The activities that a run's time is divided into, and what was spent in each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

Stack = tuple[str, ...]


class Side(Enum):
    """Owner of an activity, on whichever process it runs."""

    CLIENTS = "clients"
    SERVER = "server"
    WORKERS = "workers"


class Activity(Enum):
    """A part of a run's work; the parts exclude each other.

    An activity that begins inside another takes its time out of that one, so that all
    activities of a process add up to its whole time.

    Attributes:
        title: Its name in tables.
        side: Who it belongs to.
    """

    OPENING = "plan opened", Side.CLIENTS
    DATA = "data", Side.CLIENTS
    MEASURING = "moments and validation", Side.CLIENTS
    SCORING = "scoring", Side.CLIENTS
    TEACHER = "teacher", Side.CLIENTS
    TRAINING = "local training", Side.CLIENTS
    SELECTION = "selection and quantisation", Side.CLIENTS
    STORING = "residuals", Side.CLIENTS
    ENCODING = "encoding", Side.CLIENTS
    STARTING = "starting", Side.SERVER
    PLANNING = "plan and broadcast", Side.SERVER
    DECODING = "decoding and checks", Side.SERVER
    AGGREGATION = "aggregation", Side.SERVER
    PRUNING = "consensus, cut, guard", Side.SERVER
    EVALUATION = "evaluation", Side.SERVER
    WRITING = "checkpoints and events", Side.SERVER
    RESULTS = "results, report, ending", Side.SERVER
    WAITING = "waiting for workers", Side.SERVER
    JOBS = "jobs and messages", Side.WORKERS
    IDLE = "waiting for jobs", Side.WORKERS
    OTHER = "other", Side.SERVER

    def __init__(self, title: str, side: Side) -> None:
        self.title, self.side = title, side


_TRAINING = (Activity.DATA, Activity.TEACHER, Activity.TRAINING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Time spent in an activity.

    Attributes:
        calls: How often it began, >= 0.
        cpu_s: CPU seconds of the process, all its threads, >= 0.
        wall_s: Seconds of a clock, >= 0.
    """

    calls: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0

    def __add__(self, other: Self) -> "Spent":
        """Return both together."""
        return Spent(
            calls=self.calls + other.calls,
            cpu_s=self.cpu_s + other.cpu_s,
            wall_s=self.wall_s + other.wall_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Time that a process, or several together, spent in a stretch of a run.

    Attributes:
        spent: Activity -> what it took, without the activities that began inside it.
        stacks: Side, activity and functions, the outermost first -> CPU seconds of the
            thread that was sampled.
    """

    spent: Mapping[Activity, Spent] = field(default_factory=dict)
    stacks: Mapping[Stack, float] = field(default_factory=dict)

    @property
    def total(self) -> Spent:
        """All activities together."""
        return total(self.spent.values())

    def of(self, activity: Activity) -> Spent:
        """Return what an activity took; nothing for one that never began."""
        return self.spent.get(activity, Spent())

    @property
    def beside_training(self) -> tuple[float, float]:
        """CPU seconds of the clients' local training, and of their other work.

        Their data and their teacher's network count as training.
        """
        training = sum(self.of(one).cpu_s for one in _TRAINING)
        clients = sum(self.of(o).cpu_s for o in Activity if o.side is Side.CLIENTS)
        return training, clients - training


class Tally:
    """Adds profiles up; it is changed in place, for there may be one a job."""

    def __init__(self) -> None:
        self._spent: dict[Activity, Spent] = {}
        self._stacks: dict[Stack, float] = {}

    def add(self, profile: Profile) -> None:
        """Add a profile."""
        for activity, spent in profile.spent.items():
            self._spent[activity] = self._spent.get(activity, Spent()) + spent
        for stack, cpu_s in profile.stacks.items():
            self._stacks[stack] = self._stacks.get(stack, 0.0) + cpu_s

    @property
    def profile(self) -> Profile:
        """The sum of all that was added."""
        return Profile(spent=dict(self._spent), stacks=dict(self._stacks))


def sentence(training: float, rest: float) -> str:
    """Return the CPU seconds of local training, and of the work beside it, as text.

    Examples:
        >>> sentence(8.0, 2.0)
        '8.00 s CPU in local training, 2.00 s beside it (25 %)'
        >>> sentence(0.0, 2.0)
        '0.00 s CPU in local training, 2.00 s beside it'
    """
    share = f" ({rest / training:.0%})".replace("%", " %") if training > 0 else ""
    return f"{training:.2f} s CPU in local training, {rest:.2f} s beside it{share}"


def total(parts: Iterable[Spent]) -> Spent:
    """Return the sum.

    Examples:
        >>> total([Spent(calls=1, cpu_s=0.5), Spent(calls=2, wall_s=3.0)])
        Spent(calls=3, cpu_s=0.5, wall_s=3.0)
    """
    return sum(parts, Spent())
