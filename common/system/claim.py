"""A device's identity out of a folder of keys: the first that no process has taken.

For several devices that are started alike on one machine, such as the replicas of a
container.  A real device has its own key and no other.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import gethostname

from fedprune.common.errors import ConfigError
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.lock import hold
from fedprune.common.system.paths import make_private_folder

PLACE = "{id}"  # stands for the client id in a path or a data source
_CLAIM, _MACHINE = "claim", "machine"  # files in a device's state folder


@contextmanager
def claimed(keys: Path, state: str) -> Iterator[str]:
    """Hold a client id while the block runs.

    Args:
        keys: Folder with a folder of keys for each client, ``certs/clients``.
        state: State folder of a device; "{id}" in it stands for the client id.

    Yields:
        The first id, in alphabetic order, that no other process on this machine holds.

    Raises:
        ConfigError: If there is none, or ``state`` is the same for all.
    """
    names = sorted(path.parent.name for path in keys.glob("*/node.key"))
    if not names:
        msg = f"{keys} has no NAME/node.key; want clients of a folder of fedprune "
        msg += "certs, or --id NAME"
        raise ConfigError(msg)
    if PLACE not in state:
        msg = f'without --id: found --state "{state}", want {PLACE} in it'
        raise ConfigError(msg)
    with ExitStack() as stack:
        for name in names:
            folder = Path(state.replace(PLACE, name))
            make_private_folder(folder)
            try:
                stack.enter_context(hold(folder / _CLAIM, advice="want another"))
            except ConfigError:
                continue
            write_bytes_atomic(folder / _MACHINE, gethostname().encode())
            yield name
            return
    msg = f"all {len(names)} clients of {keys} are taken; make another key: fedprune "
    msg += f"certs {keys.parent} --client NAME"
    raise ConfigError(msg)


def own_state(state: Path) -> Path:
    """Return the state folder of a service; "{id}" stands for a claimed client id.

    Args:
        state: The folder; with "{id}" that which was claimed last on this machine, by
            its host name: replicas of a container have different ones.

    Raises:
        ConfigError: If no client was claimed here.
    """
    if PLACE not in str(state):
        return state
    here = gethostname().encode()
    parts = [part.replace(PLACE, "*") for part in state.parts]
    root = Path(state.anchor)
    found = [
        path
        for path in root.glob(str(Path(*parts[1:] if state.anchor else parts)))
        if (path / _MACHINE).is_file() and (path / _MACHINE).read_bytes() == here
    ]
    if not found:
        msg = f"no client of {state} has been taken on this machine"
        raise ConfigError(msg)
    return max(found, key=lambda path: (path / _MACHINE).stat().st_mtime)
