"""Log lines of all processes in one format: time (UTC), level, one text; no colours."""

import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from typing_extensions import override

from fedprune.common.text import at_time

FLOWER = "flwr"
# Loggers of the HTTP servers that Flower runs.
_SERVERS = ("uvicorn", "uvicorn.access", "uvicorn.error")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class PlainFormatter(logging.Formatter):
    """Formats a record as the lines of a service: ``2026-11-29T22:56:44Z INFO text``.

    Args:
        text: Ignored: a configuration may name formats of its own.
        options: Likewise.
    """

    def __init__(self, text: str | None = None, **options: object) -> None:
        del text, options
        super().__init__("%(levelname)s %(message)s")

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; those of a traceback follow it."""
        whole = super().format(record)
        message = f"{record.levelname} {record.message}"
        words = " ".join(_COLOURS.sub("", message).split())
        first = at_time(words, datetime.fromtimestamp(record.created, UTC))
        others = _COLOURS.sub("", whole[len(message) :]).splitlines()[1:]
        return "\n".join([first, *others])


def plain_logs() -> None:
    """Let Flower and its HTTP servers log in this format, from now on.

    Lines without a text, which Flower sets between others, are left out.
    """
    logger = logging.getLogger(FLOWER)
    logger.handlers = [_handler()]
    for name in _SERVERS:
        for handler in logging.getLogger(name).handlers:
            handler.setFormatter(PlainFormatter())


def _handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(logging.INFO)
    handler.setFormatter(PlainFormatter())
    handler.addFilter(lambda record: bool(record.getMessage().strip()))
    return handler


@dataclass(slots=True)
class NewLines:
    """Reads the whole lines that are written to a file from now on.

    Attributes:
        path: The file; it need not exist yet.
    """

    path: Path
    _place: int = 0

    def __post_init__(self) -> None:
        """Leave out what is there."""
        self._place = self.path.stat().st_size if self.path.exists() else 0

    def read(self) -> Iterator[str]:
        """Yield the lines written since the last call, without their ends."""
        if not self.path.exists():
            return
        if self.path.stat().st_size < self._place:  # it was emptied
            self._place = 0
        with self.path.open("rb") as file:
            file.seek(self._place)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._place += len(line)
                yield line.decode("utf-8", errors="replace").rstrip("\r\n")
