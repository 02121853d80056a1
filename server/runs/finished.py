"""Figures of a run that has ended; such a run is never continued."""

from fedprune.server.runs.events import RunFinished, read_events
from fedprune.server.runs.folder import RunFolder, read_json_object


def finished_summary(folder: RunFolder) -> dict[str, object] | None:
    """Return the figures of a run that has ended; None of one that has not.

    Raises:
        IntegrityError: If its events or its figures cannot be read.
    """
    # Read first: the events of another version are refused before anything else.
    events = read_events(folder.events)
    ended = any(isinstance(event, RunFinished) for event in events)
    if not ended or not folder.summary.is_file():
        return None
    return read_json_object(folder.summary)
