"""The Flower app bundle (FAB) sent to real devices: two names and no code.

Flower sends every node the app of a run as an archive, and runs the code inside.  Our
archive has one pyproject.toml, whose names are resolved in the packages that each
machine has installed.  An archive with any other file is refused, so the right to start
a run is no right to run code on a device.
"""

import io
import struct
import zipfile
import zlib

from fedprune.common.errors import IntegrityError
from fedprune.common.parsing import parse_toml
from fedprune.common.system.zips import check_method
from fedprune.common.text import printable
from fedprune.common.version import __version__

SERVER_APP = "fedprune.server.app:app"
CLIENT_APP = "fedprune.client.app:app"
RUN_KEY = "run"  # of the run's configuration: the run folder on the server
NAMES_KEY = "names"  # file of node number -> client of the key, or ""
LIMIT_KEY = "limit"  # bytes of the largest answer that the server stores

_APP = "pyproject.toml"
_LIST = ".info/CONTENT"
_LARGEST = 1 << 20

APP_TOML = f"""\
[project]
name = "fedprune"
version = "{__version__}"
description = "FedPrune on devices: the code is what each machine has installed"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "fedprune"

[tool.flwr.app.components]
serverapp = "{SERVER_APP}"
clientapp = "{CLIENT_APP}"

[tool.flwr.app.config]
{RUN_KEY} = ""
{NAMES_KEY} = ""
{LIMIT_KEY} = 0
"""


# All errors of zipfile and its decompressors for bytes that are not an archive.
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError,
    ValueError, RuntimeError, NotImplementedError,
)  # fmt: skip


def check_app(archive: bytes) -> None:
    """Refuse an app bundle other than that of this version.

    Args:
        archive: The bytes of a Flower app bundle.

    Raises:
        IntegrityError: If it has any other file, names, or version.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
            for entry in bundle.infolist():
                check_method(entry)
            sizes = {entry.filename: entry.file_size for entry in bundle.infolist()}
            if set(sizes) != {_APP, _LIST} or max(sizes.values()) > _LARGEST:
                others = sorted(set(sizes) - {_APP, _LIST})
                msg = (
                    "refused: the run brings its own code "
                    f"({printable(', '.join(others[:3]))}"
                    f"{', ...' if len(others) > 3 else ''}); "  # noqa: PLR2004
                    "this machine runs only what is installed on it"
                )
                raise IntegrityError(msg)
            found = parse_toml(bundle.read(_APP).decode())
    except _UNREADABLE as error:
        msg = f"refused: the run's app cannot be read: {error}"
        raise IntegrityError(msg) from error
    if found != parse_toml(APP_TOML):
        theirs = found.get("project")
        theirs = theirs if isinstance(theirs, dict) else {}
        msg = (
            f"refused: the run is one of {printable(theirs.get('name'))} "
            f"{printable(theirs.get('version'))}; this machine has fedprune "
            f"{__version__}"
        )
        raise IntegrityError(msg)
