"""Lines of log files as they are written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ERROR = "error: "  # how the last line of a command that failed begins


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
