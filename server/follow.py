"""What a run on devices is doing, told from its run folder."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from server.runfolder import RunFolder

Event = Mapping[str, object]


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
                yield json.loads(line)


def describe(event: Event) -> str:
    """Return one line about an event for people, or nothing."""
    kind = event["event"]
    text = ""
    if kind == "waiting":
        names = event["connected"]
        count = len(names) if isinstance(names, list) else 0
        text = f"{count}/{event['wanted']} clients: {_join(names)}"
        refused = event.get("refused")
        text += f"; refused: {_join(refused)}" if refused else ""
    elif kind == "round":
        text = (
            f"round {event['round']}/{event['rounds']} {event['phase']}: "
            f"accuracy {_number(event['validation_accuracy'])} (validation), "
            f"{event['accepted']}/{event['asked']} answers, "
            f"up {event['bytes_up']} B, down {event['bytes_down']} B, "
            f"{_number(event['seconds'])} s"
        )
    elif kind == "cut":
        text = f"cut after round {event['round']}: {event['params']} parameters left"
    elif kind == "client" and event["status"] != "accepted":
        text = str(event["reason"])
    elif kind == "delivered":
        told = event.get("reason") or f"accuracy {_number(event.get('accuracy'))} there"
        text = f"delivered to {event['client']}: {told}"
    elif kind in {"warning", "run_failed"}:
        text = str(event["text"])
    elif kind == "rollback":
        text = f"round {event['round']}: the cut is rolled back"
    return text


def _join(names: object) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list) else ""


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "-"
