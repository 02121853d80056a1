"""Status of a server, as ``fedprune status`` shows it: its runs and clients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedprune.server.devices.superlink import CURRENT, Link
from fedprune.server.runs.events import describe, read_events
from fedprune.server.runs.folder import RunFolder, read_json_object

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Runs and clients of a server.

    Attributes:
        address: Where it is reached from its own machine.
        runs: Its runs, newest first; the run started last has its ``folder`` and what
            its last event says, ``last``.
        clients: Its nodes; one whose key is registered has its name as ``client``.
    """

    address: str
    runs: Sequence[Row]
    clients: Sequence[Row]


def survey(link: Link) -> Status:
    """Ask a server for its runs and clients.

    Raises:
        FedPruneError: If the server does not answer.
        IntegrityError: If the events of the run started last cannot be read.
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


def current_run(state: Path) -> Path | None:
    """Return the folder of the run that a server started last, None before any.

    Raises:
        IntegrityError: If the file that says so is broken.
    """
    if not (state / CURRENT).is_file():
        return None
    return Path(str(read_json_object(state / CURRENT).get("folder", "")))


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
        if run.get("last"):
            yield f"  {run['last']}"
    for client in found.clients:
        name = client["client"] or f"node {client['node-id']}"
        yield f"client {name}: {client['status']}"


def _with_folder(run: Row, current: Row) -> Row:
    is_current = str(current.get("number")) == str(run["run-id"])
    if not is_current:
        return run
    folder = RunFolder(Path(str(current["folder"])))
    texts = map(describe, reversed(read_events(folder.events)))
    last = next((text for text in texts if text), "")
    return {**run, "folder": current["folder"], "last": last}


def _seconds(run: Row) -> str:
    return f"{float(str(run.get('elapsed') or 0)):.0f}"
