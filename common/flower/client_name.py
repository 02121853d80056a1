"""What a client may be called: the name becomes a folder, and part of a certificate."""

import re

from fedprune.common.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_client_name(name: str) -> None:
    """Refuse a name that cannot be one.

    Raises:
        ConfigError: Unless it is 1 to 100 letters, digits, ".", "_", "-".
    """
    if not _NAME.fullmatch(name):
        msg = f'client "{name}": want 1 to 100 letters, digits, ".", "_", "-"'
        raise ConfigError(msg)
