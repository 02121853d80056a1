"""The file of a run's events: appended to, read, cut back on a resume.

A line is handed to the operating system before ``write`` returns, so ``kill -9`` can
tear the last line at most.  A torn last line is ignored when read and removed when
the log is opened again; a broken line before the last is an error.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeAlias

from fedprune.common.errors import StorageError
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import timed
from fedprune.common.system.atomic import storing, write_bytes_atomic
from fedprune.common.system.paths import open_to_append
from fedprune.server.runs.events.base import Event, OfRound, RunName
from fedprune.server.runs.events.codec import (
    Place,
    Record,
    check_header,
    decode_event,
    encode_event,
    encode_header,
    parse_line,
)
from fedprune.server.runs.events.kinds import (
    CutChecked,
    CutRolledBack,
    MaskChosen,
    NetworkCut,
    NetworkRestarted,
    PrivacySpent,
    RoundFinished,
)
from fedprune.server.runs.events.of_runs import (
    RunFinished,
    RunStarted,
    RunStopped,
)

Listener: TypeAlias = Callable[[Event], None]

# A round and its consequences must survive a loss of power; one line per client need
# not: a resumed run writes it again.
_SYNCED = (
    RunStarted,
    RoundFinished,
    NetworkCut,
    MaskChosen,
    CutChecked,
    NetworkRestarted,
    PrivacySpent,
    CutRolledBack,
    RunFinished,
    RunStopped,
)


class EventLog:
    """An append-only ``events.jsonl``.

    Args:
        path: The file; made when absent, continued when present.
        listeners: Called with every event after it was written, as it is read back.

    Raises:
        IntegrityError: If a line before the last one is not an event, the log has
            another version, or it is a link.
    """

    def __init__(self, path: Path, listeners: Sequence[Listener] = ()) -> None:
        self.path = path
        self._listeners = tuple(listeners)
        found = _scan(path)
        self._file = open_to_append(path)
        self._file.truncate(found.size)
        if found.size == 0:
            self._append(encode_header(), synced=True)

    @timed(Activity.WRITING)
    def write(self, event: Event) -> None:
        """Append one event and call the listeners.

        Raises:
            ValueError: If a field has a value that its annotation excludes.
            StorageError: If the disk does not take it.
        """
        line, heard = encode_event(event)
        self._append(line, synced=isinstance(event, _SYNCED))
        for listener in self._listeners:
            listener(heard)

    def _append(self, line: bytes, *, synced: bool) -> None:
        with storing(self.path, len(line)):
            self._file.write(line)
            self._file.flush()
            if synced:
                os.fsync(self._file.fileno())

    def drop_after(self, round_: int, *, run: RunName | None = None) -> None:
        """Remove the events of later rounds: a resumed run writes them again.

        The end of the run goes as well; events without a round stay.

        Args:
            round_: The last round whose events stay, >= 0.
            run: Only the events of this federation; None means all.
        """
        found = _scan(self.path)
        kept = [
            line
            for line, event in zip(found.lines, found.events, strict=True)
            if not _is_after(event, round_, run)
        ]
        self._file.close()
        write_bytes_atomic(self.path, b"".join((found.header, *kept)))
        self._file = open_to_append(self.path)

    def close(self) -> None:
        """Write everything through to the disk and close.

        Raises:
            StorageError: If the disk does not take it.
        """
        if not self._file.closed:
            with storing(self.path, 0), self._file:
                self._file.flush()
                os.fsync(self._file.fileno())

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
        # An error on the way is the cause; what it left unwritten fails once more.
        with suppress(*([] if error is None else [StorageError])):
            self.close()


@dataclass(slots=True)
class Follower:
    """Reads the events of a log as they are written.

    Attributes:
        path: The log; it need not exist yet.
    """

    path: Path
    _place: int = field(default=0)
    _line: int = field(default=0)
    _file: int = field(default=0)  # its inode
    _last: bytes = field(default=b"")  # the last line that was given
    _lasting: bytes = field(default=b"")  # the last one that no resume drops

    def skip(self) -> None:
        """Leave out the events written so far."""
        for _ in self.new():
            pass

    def new(self) -> Iterator[Event]:
        """Yield the events of the whole lines written since the last call.

        The log is rewritten when its run is resumed.  The reading goes on behind the
        last event that was given; where that was dropped, behind the last one that no
        resume drops, so that no end of a run is given twice.

        Raises:
            IntegrityError: If a whole line is not an event, or the log has another
                version.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            found = os.fstat(file.fileno())
            # It may have grown beyond its old size since.
            if found.st_ino != self._file or found.st_size < self._place:
                self._file = found.st_ino
                self._place, self._line = self._behind(file)
            file.seek(self._place)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._place += len(line)
                self._line += 1
                place = Place(self.path, self._line)
                record = _record(line, place)
                if self._line == 1:
                    check_header(record, place)
                    continue
                event = decode_event(record, place)
                self._last = line
                if not _is_after(event, -1, None):
                    self._lasting = line
                yield event

    def _behind(self, file: IO[bytes]) -> tuple[int, int]:
        """Return place and line number behind what was given; 0 without a trace."""
        place = number = 0
        last = lasting = (0, 0)
        for line in file:
            place, number = place + len(line), number + 1
            if line == self._last:
                last = (place, number)
            if line == self._lasting:
                lasting = (place, number)
        return max(last, lasting)


def read_events(path: Path) -> list[Event]:
    """Return the events of a log in order; a torn last line is left out.

    Args:
        path: The log; an absent one has no events.

    Raises:
        IntegrityError: If a line before the last one is not an event, or the log has
            another version.
    """
    return _scan(path).events


def has_started(path: Path) -> bool:
    """Return whether a log says that its run has started, not only that it failed."""
    return any(isinstance(event, RunStarted) for event in read_events(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scanned:
    """The whole lines of a log.

    Attributes:
        header: Its first line; empty when it has none yet.
        lines: Each later one with its line end.
        events: Their events.
    """

    header: bytes
    lines: list[bytes]
    events: list[Event]

    @property
    def size(self) -> int:
        """Bytes up to the end of the last whole line."""
        return len(self.header) + sum(map(len, self.lines))


def _scan(path: Path) -> _Scanned:
    # Not splitlines(): a torn line may hold any byte, a carriage return too.
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    torn = lines.pop()  # text after the last newline: empty, unless torn
    if torn == b"" and lines and parse_line(lines[-1]) is None:
        lines.pop()
    if not lines:
        return _Scanned(header=b"", lines=[], events=[])
    places = [Place(path, number) for number in range(1, len(lines) + 1)]
    check_header(_record(lines[0], places[0]), places[0])
    return _Scanned(
        header=lines[0] + b"\n",
        lines=[line + b"\n" for line in lines[1:]],
        events=[
            decode_event(_record(line, place), place)
            for line, place in zip(lines[1:], places[1:], strict=True)
        ],
    )


def _record(line: bytes, place: Place) -> Record:
    record = parse_line(line)
    if record is None:
        problem = "not an event; want one JSON object a line"
        raise place.refusal(problem)
    return record


def _is_after(event: Event, round_: int, run: RunName | None) -> bool:
    if isinstance(event, RunFinished):
        return True
    if not isinstance(event, OfRound) or event.round <= round_:
        return False
    return run is None or event.run == run
