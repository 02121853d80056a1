"""The choice between the compiled kernels and numpy, made once a process."""

import os
from functools import cache
from pathlib import Path

from fedprune.common.errors import ConfigError
from fedprune.common.native.library import LIBRARY, Kernels
from fedprune.common.native.self_test import check

VARIABLE = "FEDPRUNE_CODER"
NUMPY, NATIVE = "numpy", "native"


@cache
def kernels() -> Kernels | None:
    """Return the kernels of this process, or None if it runs numpy.

    Raises:
        ConfigError: If ``FEDPRUNE_CODER`` has another value, or asks for kernels that
            this installation has not.
    """
    wish = os.environ.get(VARIABLE, "")
    if wish not in {"", NUMPY, NATIVE}:
        msg = f'{VARIABLE} is "{wish}"; want "{NUMPY}" or "{NATIVE}"'
        raise ConfigError(msg)
    if wish == NUMPY:
        return None
    found, reason = load(Path(__file__).resolve().parent / LIBRARY)
    if found is None and wish == NATIVE:
        msg = f'{VARIABLE} is "{NATIVE}", but {reason}'
        raise ConfigError(msg)
    return found


def load(path: Path) -> tuple[Kernels | None, str]:
    """Return the kernels of a library that passes the self-test, or None and why."""
    if not path.is_file():
        return None, (
            "the kernels are not compiled: "
            "run python -m fedprune.common.native.build with a C compiler"
        )
    try:
        found = Kernels(path)
        check(found)
    except (OSError, AttributeError, RuntimeError) as error:
        return None, f"the kernels do not work here: {error}"
    return found, ""
