"""Requests to a SuperLink, by Flower's own command in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedprune.common.errors import FedPruneError
from fedprune.common.system.processes import environment

THEN = "--then"  # between requests that one process asks
_AS_JSON = ("--format", "json")
_REQUEST_S = 180.0  # a busy machine takes long to import Flower


def flower(name: str) -> list[str]:
    """Return the command of one of Flower's programs in this installation."""
    return [str(Path(sys.executable).parent / name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A way to ask a SuperLink: Flower's command, with a connection and a home.

    Attributes:
        home: Flower's folder, whose configuration names the connection.
        address: Address of the SuperLink, for messages.
        command: Stands for ``flwr``; empty = Flower's own.
    """

    home: Path
    address: str
    command: tuple[str, ...] = ()

    def ask(
        self, what: Sequence[str], requests: Sequence[Sequence[str]]
    ) -> Iterator[dict[str, object]]:
        """Yield the answer to each of several requests, all asked by one process.

        Args:
            what: The kind of request, for messages.
            requests: Arguments of ``flwr``; of several, each is asked if those before
                it were answered, which only the console of ``gate`` does.

        Raises:
            FedPruneError: If one has no answer, or a refusal; after those before it.
        """
        said = [word for words in requests for word in (THEN, *words, *_AS_JSON)][1:]
        try:
            done = subprocess.run(  # noqa: S603 - our own words
                [*(self.command or flower("flwr")), *said],
                env=environment(self.home),
                capture_output=True,
                text=True,
                timeout=_REQUEST_S * len(requests),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise self._unanswered(what, error.stderr or error) from error
        place = 0
        for _ in requests:
            try:
                start = done.stdout.index("{", place)
                found, place = json.JSONDecoder().raw_decode(done.stdout, start)
            except ValueError as error:
                raise self._unanswered(what, error) from error
            if not isinstance(found, dict) or not found.get("success"):
                why = _reason(str(found.get("error-message") or done.stderr))
                msg = f"the server at {self.address} refused {' '.join(what)}: {why}"
                raise FedPruneError(msg)
            yield found

    def _unanswered(self, what: Sequence[str], why: object) -> FedPruneError:
        msg = f"the server at {self.address} did not answer {what[0]}: {why}"
        return FedPruneError(msg)


def rows(found: dict[str, object], key: str) -> list[dict[str, object]]:
    """Return the rows of a table in an answer."""
    table = found.get(key, [])
    return [dict(row) for row in table] if isinstance(table, list) else []


def _reason(text: str) -> str:
    """Return the error in Flower's output, without its progress lines."""
    lines = [line.strip() for line in text.splitlines()]
    doing = ("Using SuperLink:",)
    said = [x for x in lines if x and not x.startswith(doing) and not x.endswith("...")]
    return " ".join(said)
