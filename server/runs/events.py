"""What happened, one JSON object a line: the single source of report and tables.

Every event holds ``time`` (ISO 8601, UTC) and ``event`` (its kind); those of a round
also ``round``, and ``run`` ("main" or "control", "main" when absent).  The kinds:
run_started, round, client, cut, mask, rollback, resumed, warning, run_finished; on
devices also waiting, delivered, run_failed.

A line is handed to the operating system before ``write`` returns, so ``kill -9`` can
tear the last line at most.  A torn last line is ignored when read and removed when
the log is opened again; a broken line before the last is an error.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from fedprune.common.errors import IntegrityError
from fedprune.common.parsing import parse_json
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.paths import open_to_append
from fedprune.common.text import as_json, printable

Listener = Callable[[Mapping[str, object]], None]

MAIN = "main"
CONTROL = "control"

# A round and what follows it must survive a loss of power; one line per client need
# not: a resumed run writes it again.
_SYNCED = frozenset({"run_started", "round", "cut", "mask", "rollback", "run_finished"})

COLUMNS = (
    "run",
    "round",
    "cycle",
    "phase",
    "loss",
    "accuracy",
    "validation_loss",
    "validation_accuracy",
    "density",
    "params",
    "flops",
    "channel_density",
    "bytes_up",
    "bytes_down",
    "bytes_fixed",
    "bytes_simulation",
    "asked",
    "accepted",
    "refused",
    "failed",
    "zero_share",
    "seconds",
)


class EventLog:
    """An append-only ``events.jsonl``.

    Args:
        path: The file; made when absent, continued when present.
        listeners: Called with every event after it was written.

    Raises:
        IntegrityError: If a line before the last one is not an event, or it is a link.
    """

    def __init__(self, path: Path, listeners: Sequence[Listener] = ()) -> None:
        self.path = path
        self._listeners = tuple(listeners)
        _, whole = _scan(path)
        self._file = open_to_append(path)
        self._file.truncate(whole)

    def write(self, event: str, **fields: object) -> None:
        """Append one event and tell the listeners.

        Args:
            event: Its kind.
            fields: Its fields, as ``as_json`` writes them.
        """
        record: dict[str, object] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
        }
        record.update(_fields(fields))
        self._file.write(_line(record))
        self._file.flush()
        if event in _SYNCED:
            os.fsync(self._file.fileno())
        for listener in self._listeners:
            listener(record)

    def drop_after(self, round_: int, *, run: str | None = None) -> None:
        """Remove the events of later rounds: a resumed run writes them again.

        ``run_finished`` goes as well; events without a round stay.

        Args:
            round_: The last round whose events stay, >= 0.
            run: Only the events of "main" or of "control"; None means both.
        """
        kept = [
            event
            for event in read_events(self.path)
            if not _is_after(event, round_, run)
        ]
        self._file.close()
        write_bytes_atomic(self.path, b"".join(_line(_fields(event)) for event in kept))
        self._file = open_to_append(self.path)

    def close(self) -> None:
        """Write everything through to the disk and close."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the log."""
        self.close()


def read_events(path: Path) -> list[dict[str, object]]:
    """Return the events of a log in order; a torn last line is left out.

    Args:
        path: The log; an absent one has no events.

    Raises:
        IntegrityError: If a line before the last one is not an event.
    """
    events, _ = _scan(path)
    return events


def parse_event(line: bytes) -> dict[str, object] | None:
    """Return the event of one line, or None when it is torn or none at all.

    An event is a JSON object that names its kind under ``event``.
    """
    try:
        value = parse_json(line)
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("event"), str):
        return None
    return value


def number_of(event: Mapping[str, object], name: str) -> float:
    """Return a number of an event.

    Raises:
        IntegrityError: If the event says none there: its log was changed.
    """
    value = event.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = (
            f"events.jsonl: a '{printable(event['event'])}' event holds "
            f"{printable(repr(value), 60)} as '{name}'; want a number"
        )
        raise IntegrityError(msg)
    return value


def write_metrics_csv(events: Iterable[Mapping[str, object]], path: Path) -> None:
    """Write one row per ``round`` event, ``COLUMNS`` wide; unknown values are empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(event for event in events if event.get("event") == "round")
    write_bytes_atomic(path, text.getvalue().encode())


def _scan(path: Path) -> tuple[list[dict[str, object]], int]:
    """Return the whole events of a log and the bytes up to the end of the last."""
    if not path.exists():
        return [], 0
    # Not splitlines(): a torn line may hold any byte, a carriage return too.
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop()  # what follows the last newline: nothing, unless torn
    if torn == b"" and lines and parse_event(lines[-1]) is None:
        lines.pop()
    events = []
    for number, line in enumerate(lines, start=1):
        event = parse_event(line)
        if event is None:
            msg = f"{path}:{number}: not an event; want one JSON object a line"
            raise IntegrityError(msg)
        events.append(event)
    return events, sum(len(line) + 1 for line in lines)


def _is_after(event: Mapping[str, object], round_: int, run: str | None) -> bool:
    if event["event"] == "run_finished":
        return True
    at = event.get("round")
    if not isinstance(at, int) or at <= round_:
        return False
    return run is None or event.get("run", MAIN) == run


def has_started(path: Path) -> bool:
    """Return whether a log says that its run has started, not only that it failed."""
    return any(event["event"] == "run_started" for event in read_events(path))


def _line(record: Mapping[str, object]) -> bytes:
    text = json.dumps(
        record, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    # Half of a surrogate pair has no bytes, and as an escape it would not be read back.
    return f"{text}\n".encode(errors="replace")


def _fields(event: Mapping[str, object]) -> dict[str, object]:
    return {name: as_json(value) for name, value in event.items()}
