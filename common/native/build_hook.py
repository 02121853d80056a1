"""Build hook: compile the kernels of the codec where a C compiler is there.

Without one the package is installed all the same, and numpy does their work.
``FEDPRUNE_WHEEL_PLATFORM`` names the platform of a wheel that is to be published, such
as ``manylinux_2_17_x86_64``; else it is that of this machine.
"""

import importlib.util
import os
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PLATFORM = "FEDPRUNE_WHEEL_PLATFORM"


class KernelsHook(BuildHookInterface[Any]):
    """Compiles the kernels into their package folder."""

    # No @override: Python's own came with 3.12, and a build has no other package.
    def initialize(  # type: ignore[explicit-override]
        self, version: str, build_data: dict[str, Any]
    ) -> None:
        """Compile; mark a wheel that holds the library as one for this platform."""
        if self.target_name != "wheel":
            return
        folder = Path(self.root) / "src" / "fedprune" / "common" / "native"
        kernels = _load(folder / "build.py")
        try:
            kernels.build(folder / kernels.LIBRARY)
        except RuntimeError as error:
            (folder / kernels.LIBRARY).unlink(missing_ok=True)
            self.app.display_warning(f"kernels not compiled, numpy is used: {error}")
            return
        if version != "editable":
            platform = os.environ.get(_PLATFORM) or sysconfig.get_platform()
            tag = platform.replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{tag}"


def _load(path: Path) -> ModuleType:
    """Return the module of a file, as the package is not installed yet."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # noqa: S101 - a file that ends in .py has one
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
