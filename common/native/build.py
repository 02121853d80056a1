"""Compile the kernels: one shared library from the C files beside this module."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fedprune.common.native.library import LIBRARY

FOLDER = Path(__file__).resolve().parent
# No flag of the machine that compiles, and no contraction: every machine gets the
# same integers.
FLAGS = (
    "-O3",
    "-std=c11",
    "-ffp-contract=off",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
)


def compiler() -> str | None:
    """Return the C compiler: ``$CC``, else the first of cc, gcc and clang; or None."""
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return next(
        (found for name in names if name and (found := shutil.which(name))), None
    )


def build(target: Path, *extra: str) -> None:
    """Compile the kernels into ``target``, which is replaced as a whole.

    Args:
        target: The library to write.
        extra: Further flags, such as sanitizers.

    Raises:
        RuntimeError: If there is no compiler, or it fails; with what it said.
    """
    cc = compiler()
    if cc is None:
        msg = "no C compiler: install gcc or clang, or set CC"
        raise RuntimeError(msg)
    sources = [str(path) for path in sorted(FOLDER.glob("*.c"))]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / LIBRARY
        command = [cc, *FLAGS, *extra, "-o", str(made), *sources, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the compiler of this machine, our own files
        if done.returncode:
            msg = f"{cc} failed: {done.stderr.strip()[-2000:]}"
            raise RuntimeError(msg)
        made.replace(target)


def main() -> int:
    """Compile in place: ``python -m fedprune.common.native.build``."""
    try:
        build(FOLDER / LIBRARY)
    except RuntimeError as error:
        print(f"kernels are not compiled: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"compiled {FOLDER / LIBRARY}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
