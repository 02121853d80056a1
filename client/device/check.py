"""Check of a device's key, configuration and data, in a process of its own.

The supervisor of a device stays small: torch and the data are loaded here instead.
"""

import json
import sys
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from fedprune.client.device.node import REMARK
from fedprune.client.device.task import device_task, try_device
from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.text import one_line


def check_key(path: Path) -> None:
    """Refuse a file that is not the key of a node.

    Raises:
        ConfigError: If it has no elliptic-curve key in OpenSSH's format.
    """
    why = "another kind of key"
    try:
        key = load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        key, why = None, str(error)
    if not isinstance(key, EllipticCurvePrivateKey):
        msg = f"{path} is not a node key of fedprune certs ({why}); copy it again"
        raise ConfigError(msg)


def main() -> None:
    """Check the node configuration, a JSON object, and the file of a key if named."""
    try:
        for path in sys.argv[2:]:
            check_key(Path(path))
        remarks = try_device(device_task(json.loads(sys.argv[1])))
    except FedPruneError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    for text in remarks:
        _say(f"{REMARK}{text}")


def _say(text: str) -> None:
    # Code of the network may have printed a line without its end.
    sys.stderr.write(f"\n{one_line(text)}\n")


if __name__ == "__main__":
    main()
