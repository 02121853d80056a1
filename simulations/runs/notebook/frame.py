"""The rounds of a run as a table of pandas."""

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedprune.common.errors import ConfigError
from fedprune.common.text import not_installed
from fedprune.server.runs.events import COLUMNS, RoundFinished, of_kind, read_events
from fedprune.server.runs.folder import RunFolder


def rounds_frame(directory: Path) -> Any:  # noqa: ANN401 - of an optional package
    """Return the rounds of a run and of its controls, a row each.

    Args:
        directory: Folder of the run, finished or not.

    Returns:
        A ``pandas.DataFrame`` with the columns of ``metrics.csv``; a figure that was
        not measured is NaN.

    Raises:
        ConfigError: If pandas is not installed, or the folder is no run.
    """
    if find_spec("pandas") is None:
        raise ConfigError(not_installed("frame()", "pandas", "notebook"))
    import pandas as pd  # noqa: PLC0415 - optional

    events = read_events(RunFolder.open(directory).events)
    rows = [asdict(event) for event in of_kind(events, RoundFinished)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.assign(phase=[str(row["phase"]) for row in rows])
