"""The file with the secret key of the noise, outside every run folder."""

import os
import secrets
from pathlib import Path

from fedprune.common.errors import ConfigError
from fedprune.common.privacy.noise import KEY_BYTES, NoiseKey
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.paths import make_private_folder
from fedprune.common.trust import state_folder

_NAME = "privacy.key"
_OTHERS = 0o077  # all permissions of others than the owner


def load_key(path: str) -> NoiseKey:
    """Return the operator's key; that of the state folder is made where it is missing.

    Args:
        path: ``privacy.key``; "" = the file in this user's state folder.

    Raises:
        ConfigError: If a named file is missing, others may read it, or it is no key.
    """
    place = Path(path).expanduser() if path else state_folder() / _NAME
    if not path and not place.exists():
        make_private_folder(place.parent)
        fresh = secrets.token_hex(KEY_BYTES).encode() + b"\n"
        write_bytes_atomic(place, fresh, mode=0o600)
    try:
        if os.name == "posix" and place.stat().st_mode & _OTHERS:
            msg = f"{place}: others may read this key; run: chmod 600 {place}"
            raise ConfigError(msg)
        with place.open("rb") as file:
            text = file.read(2 * KEY_BYTES + 2)
        secret = bytes.fromhex(text.decode("ascii").strip())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no key"
        secret, reason = b"", f"{place}: {why}"
    else:
        reason = f"{place}: no key"
    if len(secret) != KEY_BYTES:
        msg = f"{reason}; want {2 * KEY_BYTES} hex digits, such as of: "
        msg += f"openssl rand -hex {KEY_BYTES}"
        raise ConfigError(msg)
    return NoiseKey(secret)
