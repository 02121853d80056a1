"""What a run on devices is doing, told from its run folder."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from fedprune.common.errors import IntegrityError
from fedprune.common.text import printable
from fedprune.server.runs.events import parse_event
from fedprune.server.runs.folder import RunFolder

Event = Mapping[str, object]

_LONGEST = 20_000  # characters of a line: a few hundred clients by name


@dataclass(slots=True)
class Follower:
    """Reads the events of a run as they are written.

    Attributes:
        folder: The run folder.
    """

    folder: RunFolder
    _place: int = field(default=0)

    def skip(self) -> None:
        """Leave out what is there already."""
        for _ in self.new():
            pass

    def new(self) -> Iterator[Event]:
        """Yield the whole lines that have come since the last call.

        The server rewrites its events when it resumes; then the reading starts over.

        Raises:
            IntegrityError: If a whole line is not an event.
        """
        path = self.folder.events
        if not path.exists():
            return
        if path.stat().st_size < self._place:
            self._place = 0
        with path.open("rb") as file:
            file.seek(self._place)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._place += len(line)
                event = parse_event(line)
                if event is None:
                    msg = f"{path}: holds a line that is not an event; want JSON"
                    raise IntegrityError(msg)
                yield event


def describe(event: Event) -> str:
    """Return one printable line about an event for people, or nothing."""
    tell = _LINES.get(str(event.get("event")))
    return "" if tell is None else printable(tell(event), _LONGEST)


def _waiting(event: Event) -> str:
    names, refused = event.get("connected"), event.get("refused")
    count = len(names) if isinstance(names, list) else 0
    text = f"{count}/{_shown(event, 'wanted')} clients: {_join(names)}"
    return f"{text}; refused: {_join(refused)}" if refused else text


def _round(event: Event) -> str:
    return (
        f"round {_shown(event, 'round')}/{_shown(event, 'rounds')} "
        f"{_shown(event, 'phase')}: "
        f"accuracy {_number(event.get('validation_accuracy'))} (validation), "
        f"{_shown(event, 'accepted')}/{_shown(event, 'asked')} answers, "
        f"up {_shown(event, 'bytes_up')} B, down {_shown(event, 'bytes_down')} B, "
        f"{_number(event.get('seconds'))} s"
    )


def _cut(event: Event) -> str:
    left = _shown(event, "params")
    return f"cut after round {_shown(event, 'round')}: {left} parameters left"


def _client(event: Event) -> str:
    return "" if event.get("status") == "accepted" else _shown(event, "reason")


def _delivered(event: Event) -> str:
    told = event.get("reason") or f"accuracy {_number(event.get('accuracy'))} there"
    return f"delivered to {_shown(event, 'client')}: {told}"


def _text(event: Event) -> str:
    return _shown(event, "text")


def _rollback(event: Event) -> str:
    return f"round {_shown(event, 'round')}: the cut is rolled back"


_LINES: Mapping[str, Callable[[Event], str]] = {
    "waiting": _waiting,
    "round": _round,
    "cut": _cut,
    "client": _client,
    "delivered": _delivered,
    "warning": _text,
    "run_failed": _text,
    "rollback": _rollback,
}


def _shown(event: Event, name: str) -> str:
    return str(event.get(name, "-"))


def _join(names: object) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list) else ""


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "-"
