"""Checks of folders and files named by an operator, with one line for each error."""

import errno
import os
import shutil
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from fedprune.common.errors import ConfigError, IntegrityError

_OTHERS = 0o077  # all permissions of others than the owner


def as_path(value: object, what: str) -> Path:
    """Return a string or path from Python code as a path.

    Args:
        value: The string or path.
        what: Kind of path for the error, for example "a run folder".

    Raises:
        ConfigError: If it is of another type.
    """
    if isinstance(value, str | os.PathLike):
        place = os.fspath(value)
        if isinstance(place, str):
            return Path(place)
    message = f"found {type(value).__name__}, want the path of {what}: a str or a Path"
    raise ConfigError(message)


def check_model_path(path: Path) -> None:
    """Refuse a folder where a model file is wanted; the error names a run's model file.

    Raises:
        ConfigError: If it is a folder.
    """
    if path.is_dir():
        inside = path / "model" / "final.safetensors"
        hint = inside if inside.is_file() else "a .safetensors or .fpz file"
        msg = f"{path} is a folder; want a model file: {hint}"
        raise ConfigError(msg)


def check_folder(path: Path, want: str = "a folder") -> None:
    """Refuse a folder that is a file, or lies below one; a missing one is accepted.

    Args:
        path: The folder.
        want: What is wanted in its place, for the error.

    Raises:
        ConfigError: If it is a file; the message names that.
    """
    place = _file_in_place(path)
    if place is not None:
        msg = f"{place} is a file; want {want}"
        raise ConfigError(msg)


def why_no_folder(path: Path, error: OSError) -> str:
    """Return the reason why a folder cannot be made, with the file in its place."""
    place = _file_in_place(path)
    if place is not None:
        return f"{place} is a file; want a folder"
    return error.strerror or str(error)


def _file_in_place(path: Path) -> Path | None:
    """Return the file at a path of a folder, or at a part of it; None without one."""
    for place in (path, *path.parents):
        try:
            if place.is_file():
                return place
        except OSError:  # not allowed to look there
            return None
    return None


def make_folder(path: Path) -> None:
    """Make a folder with its parents; an existing one is left as it is.

    Raises:
        ConfigError: If it cannot be made, or this user cannot write into it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the folder {path}: {why_no_folder(path, error)}"
        raise ConfigError(msg) from error
    _check_writable(path)


def check_new_folder(path: Path) -> None:
    """Refuse a folder that cannot be made or written into, before the work for it.

    Raises:
        ConfigError: If it, or what is there of its path, is a file or not writable.
    """
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        msg = f"cannot make the folder {path}: {there} is a file; want another folder"
        raise ConfigError(msg)
    _check_writable(there)


def check_output(path: Path, ending: str) -> None:
    """Refuse the path of a file that cannot be written, before the work for it starts.

    Args:
        path: The file; an existing one is replaced.
        ending: Wanted end of its name, for example ".html".

    Raises:
        ConfigError: If it is a folder, has another ending, or its folder is missing
            or not writable.
    """
    if path.is_dir():
        msg = f"{path}: a folder; want a file, such as {path / f'name{ending}'}"
        raise ConfigError(msg)
    if path.suffix != ending or (path.exists() and not path.is_file()):
        msg = f"{path}: want a file whose name ends in {ending}"
        raise ConfigError(msg)
    if not path.parent.is_dir():
        msg = f"{path}: there is no folder {path.parent}; make it first"
        raise ConfigError(msg)
    _check_writable(path.parent)


def _check_writable(folder: Path) -> None:
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        msg = f"cannot write into the folder {folder}: {error.strerror or error}"
        raise ConfigError(msg) from error


def is_private(path: Path) -> bool:
    """Return whether a file or folder, not a link, is accessible to this user alone.

    Raises:
        OSError: If it is missing, or cannot be looked at.
    """
    found = path.lstat()
    alone = found.st_uid == os.geteuid() and not found.st_mode & _OTHERS
    return alone and not path.is_symlink()


def make_private_folder(path: Path) -> None:
    """Make a folder for its owner only, with its parents; an existing one is kept.

    Raises:
        ConfigError: If it cannot be made, or this user cannot write into it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        msg = f"cannot use the folder {path}: {why_no_folder(path, error)}"
        raise ConfigError(msg) from error
    _check_writable(path)


def empty_private_folder(path: Path) -> None:
    """Make an empty folder for its owner only; old content is removed.

    Args:
        path: The folder, absolute.

    Raises:
        ConfigError: If its path has a link, or it cannot be emptied or made.
    """
    if path.resolve() != path:
        msg = f"{path} leads to {path.resolve()} by a link; remove the link"
        raise ConfigError(msg)
    try:
        if path.exists():
            shutil.rmtree(path)
    except OSError as error:
        msg = f"cannot empty the folder {path}: {error.strerror or error}"
        raise ConfigError(msg) from error
    make_private_folder(path.parent)
    make_private_folder(path)


def open_no_link(path: Path, flags: int, mode: int = 0o666) -> int:
    """Open a file as ``os.open`` does, refusing a link; return the handle.

    Args:
        path: The file.
        flags: Flags of ``os.open``.
        mode: Permissions of a file that the flags make, less the umask.

    Raises:
        IntegrityError: If it is a link.
        OSError: Any other error of ``os.open``.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        msg = f"{path} is a link, so the data would be written elsewhere; remove it"
        raise IntegrityError(msg) from error


def open_to_append(path: Path) -> IO[bytes]:
    """Open a file to write at its end; made when absent, refused when it is a link.

    Raises:
        IntegrityError: As for ``open_no_link``.
    """
    handle = open_no_link(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return os.fdopen(handle, "ab")


def check_readable(path: Path, advice: str) -> None:
    """Refuse a file that is missing or that this user may not read.

    Args:
        path: The file.
        advice: Remedy when it is missing, for the error.

    Raises:
        ConfigError: If it cannot be read.
    """
    try:
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError) as error:
        check_folder(path.parent)
        msg = f"{path} is missing; {advice}"
        raise ConfigError(msg) from error
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise ConfigError(msg) from error
