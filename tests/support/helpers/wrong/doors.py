"""The two ways into a run: ``fedprune.simulate``, and the command line."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from fedprune import simulate
from fedprune.simulations.cli import run_command_line
from helpers.tiny_federation import BASE, Tiny, make_examples

EXAMPLES = make_examples(48)
X, Y = EXAMPLES.inputs, EXAMPLES.targets
RUNS = "runs"


def nothing() -> None:
    """Write no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One wrong input.

    Attributes:
        enter: Hands it over: raises the error of the Python API, or returns the exit
            code of the command line.
        files: Writes the files that it reads, into the working folder.
    """

    enter: Callable[[], object]
    files: Callable[[], object] = nothing


def python(model=Tiny, data=None, files=nothing, **keys):
    """Hand a network or a task to ``simulate``; ``task__loss="mse"`` sets a key."""

    def enter():
        return simulate(model, data, settings(**keys), progress=False)

    return Door(enter=enter, files=files)


def settings(**keys):
    """Return the settings of a tiny run, whose folder is ``runs``."""
    named = {key.replace("__", "."): value for key, value in keys.items()}
    return BASE | {"run.dir": RUNS} | named


def arrays(model=Tiny, x=X, y=Y, test=None, **keys):
    """Hand over inputs and targets; ``test`` is the test part, else its beginning."""
    return python(model, (x, y, *(test or (x[:12], y[:12]))), **keys)


def line(files=nothing, /, *words, **keys):
    """Name a data set, a network or a task on the command line."""
    chosen = {"task__model": "mlp", "run__dir": RUNS, "run__engine": "inprocess"} | keys
    sets = [
        f"--set={key.replace('__', '.')}={json.dumps(value)}"
        for key, value in chosen.items()
    ]
    return Door(
        enter=lambda: run_command_line(["simulate", *words, *sets]), files=files
    )
