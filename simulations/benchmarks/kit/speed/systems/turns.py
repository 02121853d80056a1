"""Turns of several systems: each runs one round when it is told to, and then waits."""

import os
from pathlib import Path

TURNS = "FEDPRUNE_TURNS"  # "READ,WRITE": numbers of two pipes' ends
_ENDED = b"."


class Enough(BaseException):
    """Ends a run that has rounds left: no part of the product catches it."""


class Turns:
    """The end of a system that is measured.

    Raises:
        KeyError: If this process was not started by ``Opponent``.
    """

    def __init__(self) -> None:
        reading, writing = os.environ[TURNS].split(",")
        self._reading, self._writing = int(reading), int(writing)

    def ended(self) -> bool:
        """Say that a round has ended; wait; return whether another one is wanted."""
        os.write(self._writing, _ENDED)
        return bool(os.read(self._reading, 1))


def folder_of(arguments: list[str]) -> Path:
    """Return the folder of a workload's files: the first argument of a system."""
    return Path(arguments[0])
