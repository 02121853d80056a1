"""Playing a mistake on a command line in this process."""

import contextlib
import io
import subprocess
import sys
from dataclasses import dataclass, replace

from fedprune.simulations.benchmarks.kit.mistakes.mistake import (
    HERE,
    Command,
    Mistake,
)

PYTHON = "python"  # as the first word: an interpreter of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a mistake.

    Attributes:
        code: The exit code.
        errors: Lines of standard error that begin with "error: ".
        lines: All lines of standard output and standard error.
        place: The text of ``HERE``.
    """

    code: int
    errors: tuple[str, ...]
    lines: tuple[str, ...]
    place: str = ""


def play(mistake: Mistake, command: Command) -> Answer:
    """Type a mistake in the working folder, and return the answer.

    Args:
        mistake: The mistake.
        command: The command line, ``run_command_line``.
    """
    with mistake.place(command) as place:
        words = [word.replace(HERE, place) for word in mistake.words]
        answer = _asked(words) if words[:1] == [PYTHON] else _typed(words, command)
    return replace(answer, place=place)


def _typed(words: list[str], command: Command) -> Answer:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command(words)
    return _answer(code, out.getvalue(), err.getvalue())


def _asked(words: list[str]) -> Answer:
    """Return the answer of a new interpreter."""
    done = subprocess.run(  # noqa: S603 - our own interpreter and words
        [sys.executable, *words[1:]], capture_output=True, text=True, check=False
    )
    return _answer(done.returncode, done.stdout, done.stderr)


def _answer(code: int, out: str, err: str) -> Answer:
    said = err.splitlines()
    return Answer(
        code=code,
        errors=tuple(line for line in said if line.startswith("error: ")),
        lines=(*out.splitlines(), *said),
    )


def fault(mistake: Mistake, answer: Answer) -> str:
    """Return what is wrong with an answer, or "": one clear line, the right code."""
    if answer.code != mistake.code:
        return f"exit code {answer.code}, want {mistake.code}: {answer.errors}"
    if any("Traceback" in line for line in answer.lines):
        return "a traceback"
    if mistake.code and len(answer.errors) != 1:
        return f"{len(answer.errors)} lines of error, want one"
    warnings = tuple(line for line in answer.lines if line.startswith("warning: "))
    lines = answer.lines if mistake.works else answer.errors or warnings
    said = [part.replace(HERE, answer.place) for part in mistake.said]
    if not any(all(part in line for part in said) for line in lines):
        return f"no line with {said}: {lines}"
    return ""
