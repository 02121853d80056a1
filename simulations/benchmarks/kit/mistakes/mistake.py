"""A mistake: what is typed, the exit code, and words of the line that answers.

Numbers are those of the protocol in which new users made them; it has holes where a
row was no mistake.  Exit code 0 is a run that goes on, with a warning; or, of what was
a mistake once and works now, without one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

Command = Callable[[Sequence[str]], int]
Place = Callable[[Command], AbstractContextManager[str]]

USAGE, DATA, TOO_FEW, BROKEN = 2, 3, 4, 6
# It stands in a command line, and in what must be said, for the name of the place.
HERE = "HERE"

_SMALL = (
    *("task.clients=3", "rounds.cohort=3", "rounds.minimum=2", "rounds.warmup=1"),
    *("rounds.sparsify=1", "rounds.finetune=0", "rounds.cuts=1", "rounds.final=0"),
    *("client.epochs=1", "run.controls=[]", "run.engine=inprocess"),
    "prune.budget.params=0.5",
)


@contextmanager
def anywhere(_command: Command) -> Iterator[str]:
    """Ask nothing of the machine."""
    yield ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One mistake.

    Attributes:
        name: What the user did.
        words: The command line, without the program.
        code: The exit code that it must end with.
        said: Parts of the one line that must answer; for exit code 0 of a warning.
        works: Whether it is none any more: ``said`` may stand on any line.
        place: The state of the machine in which it is made; gives the text of
            ``HERE``.
    """

    name: str
    words: tuple[str, ...]
    code: int
    said: tuple[str, ...]
    works: bool = False
    place: Place = anywhere


def settings(*pairs: str) -> tuple[str, ...]:
    """Return ``simulate`` with settings."""
    return ("simulate", *(word for one in pairs for word in ("--set", one)))


def small_run(*more: str) -> tuple[str, ...]:
    """Return a small run with settings."""
    return settings(*_SMALL, *more)


def with_data(source: str) -> tuple[str, ...]:
    """Return a small run on other data."""
    return settings(*_SMALL, f"task.data={source}", "task.model=models.py:good")


def with_network(name: str, *more: str) -> tuple[str, ...]:
    """Return a small run of another network."""
    return settings(*_SMALL, f"task.model=models.py:{name}", *more)


def mistake(
    name: str,
    words: tuple[str, ...],
    code: int,
    *said: str,
    place: Place = anywhere,
) -> Mistake:
    """Return a mistake; arguments are those of ``Mistake``."""
    return Mistake(name=name, words=words, code=code, said=said, place=place)


def works(
    name: str, words: tuple[str, ...], *said: str, place: Place = anywhere
) -> Mistake:
    """Return what was a mistake; arguments are those of ``Mistake``."""
    return Mistake(name=name, words=words, code=0, said=said, works=True, place=place)
