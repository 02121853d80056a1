"""Checks of this machine: versions, packages, cores, memory, folders.

Works in an edge install: missing extras are reported, and only a missing part of every
install makes the machine unusable.
"""

import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from fedprune.common import native
from fedprune.common.config import DATA_VARIABLE, Config
from fedprune.common.errors import ConfigError
from fedprune.common.system.cores import own_cores

_NEEDED = ("numpy", "msgpack", "xxhash", "safetensors", "pydantic", "typer")
_HEAVY = ("torch", "flwr")  # needed too, but seconds to import
_LIBRARY = Path("lib") / "libtorch_python.so"  # loads the others of torch
_OPTIONAL = {
    "ray": "simulations on Ray; pip install 'fedprune[simulation]'",
    "sklearn": "the digits data; pip install 'fedprune[simulation]'",
    "pyarrow": "parquet data; pip install 'fedprune[simulation]'",
    "PIL": "images; pip install 'fedprune[simulation]'",
    "onnx": "export; pip install 'fedprune[onnx]'",
    "onnxscript": "export; pip install 'fedprune[onnx]'",
    "onnxruntime": "export --check; pip install 'fedprune[onnx]'",
}
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow"}
_OLDEST, _NEWEST = (3, 11), (3, 13)
_GIB = 2**30
_LOW_DISK = 1 * _GIB  # bytes; a run with checkpoints of large models needs more


class Level(StrEnum):
    """Level of a check's result; only an error makes the machine unusable."""

    OK = "ok"
    NOTE = "note"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Result of one check.

    Attributes:
        name: Name of the check.
        level: Level of the result.
        detail: Found and, unless it is fine, wanted.
    """

    name: str
    level: Level
    detail: str

    def as_dict(self) -> dict[str, str]:
        """Return the fields for JSON."""
        return asdict(self)


def examine(*, full: bool = False) -> list[Check]:
    """Run all checks and return their results; never raises.

    Args:
        full: Whether torch, Flower and the packages of extras are imported, which takes
            seconds, and a GPU is looked for; else their versions are looked up and
            torch's libraries loaded.
    """
    checks = [_python(), _origin()]
    checks += [_package(name) if full else _heavy(name) for name in _HEAVY]
    checks += [_package(name) for name in _NEEDED]
    checks += [_extra(name, purpose, full=full) for name, purpose in _OPTIONAL.items()]
    checks += [_coder(), *(_accelerator() if full else ())]
    checks += [_cores(), _memory(), _data_dir()]
    return [*checks, *_run_dir(Path(Config().run.dir))]


def usable(checks: Sequence[Check]) -> bool:
    """Return whether no check has an error."""
    return all(check.level is not Level.ERROR for check in checks)


def render(checks: Sequence[Check]) -> str:
    """Return the checks as lines, with a verdict at the end."""
    width = max(len(check.name) for check in checks)
    lines = [f"{c.level:5}  {c.name:{width}}  {c.detail}" for c in checks]
    errors = sum(check.level is Level.ERROR for check in checks)
    verdict = f"not usable: {errors} error(s)" if errors else "usable"
    return "\n".join([*lines, verdict])


def _check(name: str, detail: str, *, fine: bool, needed: bool = True) -> Check:
    bad = Level.ERROR if needed else Level.NOTE
    return Check(name=name, level=Level.OK if fine else bad, detail=detail)


def _python() -> Check:
    version = platform.python_version()
    fine = _OLDEST <= sys.version_info[:2] <= _NEWEST
    detail = version if fine else f"{version}, want >= 3.11 and < 3.14"
    return _check("python", f"{detail} ({sys.executable})", fine=fine)


def _origin() -> Check:
    """Return the version of FedPrune, and the folder it runs from."""
    home = Path(__file__).parents[1]
    return _check("fedprune", f"{_version('fedprune')} in {home}", fine=True)


def _version(module: str) -> str:
    """Return the version of a module's package."""
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(module, module))
    except importlib.metadata.PackageNotFoundError:
        return "(not installed, run from its folder)"


def _extra(name: str, purpose: str, *, full: bool) -> Check:
    """Check a package of an extra."""
    if importlib.util.find_spec(name) is None:
        detail = f"not installed: needed for {purpose}"
        return _check(name, detail, fine=False, needed=False)
    if full:
        return _package(name, needed=False)
    return _check(name, _version(name), fine=True)


def _package(name: str, *, needed: bool = True) -> Check:
    """Check that a package can be imported."""
    if importlib.util.find_spec(name) is None:
        return _check(name, "not installed", fine=False, needed=needed)
    try:
        importlib.import_module(name)
    except Exception as error:
        reason = " ".join(str(error).split())
        detail = f"{_version(name)}, does not import: {type(error).__name__}: {reason}"
        return _check(name, detail, fine=False, needed=needed)
    return _check(name, _version(name), fine=True)


def _heavy(name: str) -> Check:
    """Check a needed package without importing it: that its libraries load."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        return _check(name, "not installed", fine=False)
    library = Path(found.origin).parent / _LIBRARY
    if library.is_file():
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            detail = f"{_version(name)}, does not load: {error}"
            return _check(name, detail, fine=False)
    return _check(name, _version(name), fine=True)


def _coder() -> Check:
    """Return whether the codec runs its compiled kernels, or numpy and why."""
    try:
        return _check("coder", native.describe(), fine=True)
    except ConfigError as error:
        return _check("coder", str(error), fine=False)


def _accelerator() -> Iterator[Check]:
    """Yield the GPU that torch finds, if any."""
    try:
        import torch
    except Exception:
        return
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        yield _check("device", f"CUDA {torch.version.cuda}, {name}", fine=True)
    else:
        yield _check("device", "CPU", fine=True)


def _cores() -> Check:
    return _check("cores", f"{own_cores()} for this process", fine=True)


def _memory() -> Check:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()}
        free, total = sizes["MemAvailable"], sizes["MemTotal"]
    except (OSError, KeyError, ValueError, IndexError):
        return _check("memory", "unknown on this system", fine=True)
    kib = _GIB / 1024
    return _check(
        "memory", f"{free / kib:.1f} of {total / kib:.1f} GiB free", fine=True
    )


def _data_dir() -> Check:
    text = os.environ.get(DATA_VARIABLE, "")
    if not text:
        detail = f"{DATA_VARIABLE} is not set: parquet data needs it or task.data_dir"
        return _check("data", detail, fine=False, needed=False)
    if not Path(text).is_dir():
        detail = f"{DATA_VARIABLE} is {text}, which is not a folder"
        return _check("data", detail, fine=False, needed=False)
    return _check("data", text, fine=True)


def _run_dir(path: Path) -> Iterator[Check]:
    """Check that a run could write its folder here, and the free space."""
    place = path.resolve()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        detail = f"cannot write in {place}: {error.strerror}; set run.dir"
        yield _check("run folder", detail, fine=False, needed=False)
        return
    yield _check("run folder", str(path.resolve()), fine=True)
    free = shutil.disk_usage(place).free
    detail = f"{free / _GIB:.1f} GiB free"
    yield _check("disk", detail, fine=free >= _LOW_DISK, needed=False)
