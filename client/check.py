"""Whether a device's configuration and data can work, in a process that then ends.

What watches over a device stays small: torch and the data are loaded here instead.
"""

import json
import sys

from client.device import check_data, device_task
from common.errors import FedPruneError


def main() -> None:
    """Check the node configuration, a JSON object in the first argument."""
    try:
        check_data(device_task(json.loads(sys.argv[1])))
    except FedPruneError as error:
        sys.stderr.write(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
