"""The gate of ``make coverage``: each package has at least 90 % of its branches taken.

``python .ci/branches.py build/coverage.json``
"""

import json
import sys
from collections import Counter
from pathlib import Path

PACKAGES = ("common", "server", "client")
LEAST = 90.0  # percent


def main() -> int:
    """Print the shares of the packages; return 1 if one is too low."""
    found = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["files"]
    taken, total = Counter[str](), Counter[str]()
    for path, file in found.items():
        package = path.removeprefix("src/fedprune/").partition("/")[0]
        taken[package] += file["summary"]["covered_branches"]
        total[package] += file["summary"]["num_branches"]
    low = 0
    for package in PACKAGES:
        share = 100 * taken[package] / max(total[package], 1)
        low += share < LEAST
        counts = f"{taken[package]} of {total[package]}"
        sys.stdout.write(
            f"{package}: {share:.1f} % of the branches, {counts}; want {LEAST:g} %\n"
        )
    return int(low > 0)


if __name__ == "__main__":
    sys.exit(main())
