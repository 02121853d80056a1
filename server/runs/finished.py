"""Whether a run has ended: it stays as it is then, whoever asks for it to go on."""

from fedprune.server.runs.events import read_events
from fedprune.server.runs.folder import RunFolder, read_json_object


def finished_summary(folder: RunFolder) -> dict[str, object] | None:
    """Return the figures of a run that has ended; None of one that has not.

    Raises:
        IntegrityError: If its events or its figures cannot be read.
    """
    if not folder.summary.is_file():
        return None
    events = read_events(folder.events)
    ended = any(event["event"] == "run_finished" for event in events)
    return read_json_object(folder.summary) if ended else None
