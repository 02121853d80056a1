"""Playing a mistake on a command line in this process."""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedprune.simulations.benchmarks.kit.mistakes.mistake import Mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a mistake.

    Attributes:
        code: The exit code.
        errors: Lines of standard error that begin with "error: ".
        lines: All lines of standard output and standard error.
    """

    code: int
    errors: tuple[str, ...]
    lines: tuple[str, ...]


def play(mistake: Mistake, command: Callable[[Sequence[str]], int]) -> Answer:
    """Type a mistake in the working folder, and return the answer.

    Args:
        mistake: The mistake.
        command: The command line, ``run_command_line``.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command(mistake.words)
    said = err.getvalue().splitlines()
    return Answer(
        code=code,
        errors=tuple(line for line in said if line.startswith("error: ")),
        lines=(*out.getvalue().splitlines(), *said),
    )


def fault(mistake: Mistake, answer: Answer) -> str:
    """Return what is wrong with an answer, or "": one clear line, the right code."""
    if answer.code != mistake.code:
        return f"exit code {answer.code}, want {mistake.code}: {answer.errors}"
    if any("Traceback" in line for line in answer.lines):
        return "a traceback"
    if mistake.code and len(answer.errors) != 1:
        return f"{len(answer.errors)} lines of error, want one"
    lines = answer.errors or tuple(x for x in answer.lines if x.startswith("warning: "))
    if not any(all(part in line for part in mistake.said) for line in lines):
        return f"no line with {mistake.said}: {lines}"
    return ""
