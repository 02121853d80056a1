"""A mistake: what is typed, the exit code, and words of the line that answers.

Numbers are those of the protocol in which new users made them; it has holes where a
row was no mistake.  Exit code 0 is a run that goes on, with a warning.
"""

from dataclasses import dataclass

USAGE, DATA, TOO_FEW, BROKEN = 2, 3, 4, 6

_SMALL = (
    *("task.clients=3", "rounds.cohort=3", "rounds.minimum=2", "rounds.warmup=1"),
    *("rounds.sparsify=1", "rounds.finetune=0", "rounds.cuts=1", "rounds.final=0"),
    *("client.epochs=1", "run.controls=[]", "run.engine=inprocess"),
    "prune.budget.params=0.5",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One mistake.

    Attributes:
        name: What the user did.
        words: The command line, without the program.
        code: The exit code that it must end with.
        said: Parts of the one line that must answer; for exit code 0 of a warning.
    """

    name: str
    words: tuple[str, ...]
    code: int
    said: tuple[str, ...]


def settings(*pairs: str) -> tuple[str, ...]:
    """Return ``simulate`` with settings."""
    return ("simulate", *(word for one in pairs for word in ("--set", one)))


def with_data(source: str) -> tuple[str, ...]:
    """Return a small run on other data."""
    return settings(*_SMALL, f"task.data={source}", "task.model=models.py:good")


def with_network(name: str, *more: str) -> tuple[str, ...]:
    """Return a small run of another network."""
    return settings(*_SMALL, f"task.model=models.py:{name}", *more)


def mistake(name: str, words: tuple[str, ...], code: int, *said: str) -> Mistake:
    """Return a mistake; arguments are those of ``Mistake``."""
    return Mistake(name=name, words=words, code=code, said=said)
