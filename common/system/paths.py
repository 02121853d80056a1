"""Folders and files that an operator names: usable, or refused in one line."""

import os
from pathlib import Path

from fedprune.common.errors import ConfigError


def as_path(value: object, what: str) -> Path:
    """Return a path that Python code gave as a string or a path.

    Args:
        value: What was given.
        what: What the path is of, for the error: "a run folder".

    Raises:
        ConfigError: If it is something else.
    """
    if isinstance(value, str | os.PathLike):
        place = os.fspath(value)
        if isinstance(place, str):
            return Path(place)
    message = f"found {type(value).__name__}, want the path of {what}: a str or a Path"
    raise ConfigError(message)


def make_folder(path: Path) -> None:
    """Make a folder with its parents; one that is there stays.

    Raises:
        ConfigError: If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the folder {path}: {error.strerror or error}"
        raise ConfigError(msg) from error


def make_private_folder(path: Path) -> None:
    """Make a folder for its owner only, with its parents; one that is there stays.

    Raises:
        ConfigError: If it cannot be made, or this user cannot write into it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = path / ".probe"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        msg = f"cannot use the folder {path}: {error.strerror or error}"
        raise ConfigError(msg) from error


def check_readable(path: Path, advice: str) -> None:
    """Refuse a file that is missing or that this user may not read.

    Args:
        path: The file.
        advice: What to do when it is missing.

    Raises:
        ConfigError: If it cannot be read.
    """
    try:
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"{path} is missing; {advice}"
        raise ConfigError(msg) from error
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise ConfigError(msg) from error
