"""Compile the kernels: one shared library from the C files beside this module.

Imports nothing of FedPrune: the build hook loads this file before there is a package.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARY = "libkernels.so.1"
FOLDER = Path(__file__).resolve().parent
# No flag of the machine that compiles, and no contraction: every machine gets the
# same integers.
_FLAGS = ("-O3", "-std=c11", "-ffp-contract=off", "-fPIC", "-fvisibility=hidden")


def compiler() -> str | None:
    """Return the C compiler: ``$CC``, else the first of cc, gcc and clang; or None."""
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    found = (shutil.which(name) for name in names if name)
    return next((path for path in found if path), None)


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
        made = Path(folder) / target.name
        command = [cc, *_FLAGS, "-shared", *extra, "-o", str(made), *sources, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this machine's compiler, our own files
        if done.returncode:
            msg = f"{cc} failed: {done.stderr.strip()[-2000:]}"
            raise RuntimeError(msg)
        made.replace(target)


def main() -> int:
    """Compile in place, with the flags of the command line; return the code."""
    try:
        build(FOLDER / LIBRARY, *sys.argv[1:])
    except RuntimeError as error:
        print(f"kernels are not compiled: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"compiled {FOLDER / LIBRARY}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
