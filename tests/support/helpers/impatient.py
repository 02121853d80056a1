"""The command line, with workers on Ray that are lost after a few silent seconds.

python -m helpers.impatient WORDS...
"""

import sys

from fedprune.__main__ import main
from fedprune.simulations.engines import pool

if __name__ == "__main__":
    pool._SILENT = 5
    sys.exit(main())
