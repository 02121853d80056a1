"""What a server is doing, as ``fedprune status`` shows it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fedprune.common.errors import IntegrityError
from fedprune.common.text import printable
from fedprune.server.devices.superlink import CURRENT, Link
from fedprune.server.runs.events import parse_event
from fedprune.server.runs.folder import RunFolder, read_json_object

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


Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a server is doing.

    Attributes:
        address: Where it is reached from its own machine.
        runs: Its runs, newest first; the run started last has its ``folder``.
        clients: Its nodes; one whose key is registered has its name as ``client``.
    """

    address: str
    runs: Sequence[Row]
    clients: Sequence[Row]


def survey(link: Link) -> Status:
    """Ask a server what it is doing.

    Raises:
        FedPruneError: If the server does not answer.
    """
    current: Row = {}
    if (link.state / CURRENT).exists():
        current = read_json_object(link.state / CURRENT)
    names = link.names()
    return Status(
        address=link.address,
        runs=[_with_folder(run, current) for run in link.runs()],
        clients=[
            {"client": names.get(str(node["node-id"]), ""), **node}
            for node in link.nodes()
        ],
    )


def lines(found: Status) -> Iterator[str]:
    """Yield one line for each run and each client."""
    for run in found.runs:
        parts = [f"run {run['run-id']}: {run['status']}", f"{_seconds(run)} s"]
        traffic = run.get("network-traffic")
        if isinstance(traffic, dict):
            parts.append(f"up {traffic['inbound-bytes']} B")
            parts.append(f"down {traffic['outbound-bytes']} B")
        if "folder" in run:
            parts.append(str(run["folder"]))
        yield ", ".join(parts)
    for client in found.clients:
        name = client["client"] or f"node {client['node-id']}"
        yield f"client {name}: {client['status']}"


def _with_folder(run: Row, current: Row) -> Row:
    is_current = str(current.get("number")) == str(run["run-id"])
    return {**run, "folder": current["folder"]} if is_current else run


def _seconds(run: Row) -> str:
    return f"{float(str(run.get('elapsed') or 0)):.0f}"
