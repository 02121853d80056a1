"""JSON files from untrusted sources."""

from pathlib import Path

from fedprune.common.errors import IntegrityError
from fedprune.common.parsing import parse_json


def read_json(path: Path, what: str = "JSON") -> object:
    """Return the value of a JSON file.

    Args:
        path: The file.
        what: Kind of file, for the error.

    Raises:
        IntegrityError: If it cannot be read, or ``parse_json`` refuses it.
    """
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        msg = f"{path}: not readable as {what}: {error.strerror or error}"
        raise IntegrityError(msg) from error
    except ValueError as error:
        msg = f"{path}: not readable as {what}: {error}"
        raise IntegrityError(msg) from error
