"""The file with the secret key of the noise, outside every run folder."""

import os
import secrets
from pathlib import Path

from fedprune.common.errors import ConfigError
from fedprune.common.privacy.noise import KEY_BYTES, NoiseKey
from fedprune.common.system.atomic import sync_folder, write_bytes_atomic
from fedprune.common.system.paths import is_private, make_private_folder
from fedprune.common.trust import state_folder

_NAME = "privacy.key"


def load_key(path: str) -> NoiseKey:
    """Return the operator's key; that of the state folder is made where it is missing.

    Args:
        path: ``privacy.key``; "" = the file in this user's state folder.

    Raises:
        ConfigError: If a named file is missing, it is not this user's alone, or it is
            no key.
    """
    place = Path(path).expanduser() if path else state_folder() / _NAME
    if not path and not place.exists():
        make_private_folder(place.parent)
        _make(place)
    return NoiseKey(_read(place))


def _make(place: Path) -> None:
    """Make a key; of processes that do so at the same time the first one's stays.

    Another one's in its place would end the run that has begun with the first.
    """
    fresh = place.with_name(f"{place.name}.{secrets.token_hex(8)}")
    text = secrets.token_hex(KEY_BYTES).encode() + b"\n"
    write_bytes_atomic(fresh, text, mode=0o600)
    try:
        os.link(fresh, place)
        sync_folder(place.parent)
    except FileExistsError:
        pass
    except OSError as error:
        msg = f"{place}: {error.strerror or error}; want privacy.key, a file of a key"
        raise ConfigError(msg) from error
    finally:
        fresh.unlink(missing_ok=True)


def _read(place: Path) -> bytes:
    try:
        if not is_private(place):
            msg = f"{place}: want a file of this user alone, no link; "
            msg += f"run: chmod 600 {place}"
            raise ConfigError(msg)
        with place.open("rb") as file:
            text = file.read(2 * KEY_BYTES + 2)
    except OSError as error:
        msg = f"{place}: {error.strerror or error}; want the key of the noise"
        raise ConfigError(msg) from error
    try:
        secret = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        msg = f"{place}: no key; want {2 * KEY_BYTES} hex digits, such as of: "
        msg += f"openssl rand -hex {KEY_BYTES}"
        raise ConfigError(msg)
    return secret
