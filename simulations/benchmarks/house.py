"""Size of the code: files in a folder, imports, lines, and the files of one encode.

``python -m fedprune.simulations.benchmarks.house [--tests]``, in a checkout;
``--tests`` also runs the fast tests and ``make check``, for minutes.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fedprune.common.errors import ConfigError
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.house.event_keys import event_keys_figure
from fedprune.simulations.benchmarks.kit.house.imports import Imports, read_imports
from fedprune.simulations.benchmarks.kit.house.new_method import edits_figure
from fedprune.simulations.benchmarks.kit.house.repeats import most_repeats
from fedprune.simulations.benchmarks.kit.house.waiting import Waited, wait_for
from fedprune.simulations.benchmarks.kit.house.walk import Walk, walk_of_an_encode

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("common", "client", "server", "simulations")
_BENCHMARKS = "simulations/benchmarks"
_BEFORE = "commit a29d834"
_SERIAL = "commit 4493bfe"
# Beside files of the user's own that have our folders' names.
_SCRIPT = """
import fedprune
for name in ("client", "common", "server"):
    __import__(name)
settings = {
    "task.clients": 2, "rounds.cohort": 2, "rounds.minimum": 2, "rounds.warmup": 0,
    "rounds.sparsify": 1, "rounds.finetune": 0, "rounds.cuts": 1, "rounds.final": 0,
    "client.epochs": 1, "run.engine": "inprocess", "run.controls": [],
}
print("rounds", fedprune.simulate(config=settings).summary["rounds"])
"""


def measure(*, tests: bool = False) -> list[Figure]:
    """Count the files of the checkout, follow one encode, build and run a wheel.

    Args:
        tests: Whether the fast tests and ``make check`` are run as well.
    """
    if not (_ROOT / "pyproject.toml").is_file():
        msg = f"{_ROOT} is not a checkout; run this benchmark in one"
        raise ConfigError(msg)
    found = [p for name in _PACKAGES for p in sorted((_ROOT / name).rglob("*.py"))]
    return [
        *_folders(found),
        *_imports(read_imports(_ROOT, _PACKAGES)),
        _lines(found),
        event_keys_figure(found),
        edits_figure(found),
        _banned_words(),
        _repeats(most_repeats()),
        *_walk(walk_of_an_encode()),
        _wheel(),
        *(_waiting() if tests else ()),
    ]


def _folders(files: list[Path]) -> list[Figure]:
    counts = Counter(p.parent.relative_to(_ROOT).as_posix() for p in files)
    benchmarks = counts.pop(_BENCHMARKS)
    fullest = ", ".join(f"{name} {count}" for name, count in counts.most_common(3))
    return [
        Figure(
            name="most files in a folder, benchmarks apart",
            value=max(counts.values()),
            reference=f"39 at {_BEFORE}",
            goal="<= 13",
            detail=f"with __init__.py; {fullest}",
        ),
        Figure(
            name="files in benchmarks, their kit apart",
            value=benchmarks,
            reference=f"27 at {_BEFORE}",
            goal="<= 22",
        ),
    ]


def _imports(found: Imports) -> list[Figure]:
    chain = " > ".join(name.rpartition(".")[2] for name in found.longest)
    return [
        Figure(
            name="import depth",
            value=len(found.longest),
            reference=f"25 at {_BEFORE}",
            goal="<= 20",
            detail=f"modules in a chain of imports at module level: {chain}",
        ),
        Figure(
            name="import cycles",
            value=found.cycles,
            reference=f"0 at {_BEFORE}",
            goal="== 0",
            detail="sets of modules that import each other at module level",
        ),
    ]


def _lines(files: list[Path]) -> Figure:
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    return Figure(
        name="product lines",
        value=lines,
        reference=f"35 776 at {_BEFORE}, 40 139 when the house was begun",
        goal="<= 34500",
        detail="all lines of .py files; the code added between the two commits refuses "
        "wrong input, foreign code and hostile clients",
    )


def _banned_words() -> Figure:
    """Count what the glossary's test finds in code and pages."""
    test = "tests/test_glossary.py"
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = set(re.findall(r"^E +(\S+:\d+: .+)$", done.stdout, re.MULTILINE))
    return Figure(
        name="glossary: banned words in code and pages",
        value=len(found) or done.returncode,
        goal="== 0",
        detail=f"as {test} finds them, with docstrings that ask a question",
    )


def _repeats(found: dict[str, int]) -> Figure:
    return Figure(
        name="kinds of work that a round does twice to one object",
        value=sum(times > 1 for times in found.values()),
        reference=f"5 at {_BEFORE}",
        goal="== 0",
        detail=", ".join(f"{kind} {times}" for kind, times in sorted(found.items()))
        + "; at most in a run of four clients",
    )


def _walk(found: Walk) -> list[Figure]:
    return [
        Figure(
            name="files that one encode_update enters",
            value=found.files,
            reference=f"21 at {_BEFORE}, traced in the same way",
            detail="calls traced one by one, values = int8",
        ),
        Figure(
            name="returns of one encode_update to a file already left",
            value=found.returns,
            reference=f"88 at {_BEFORE}, traced in the same way",
            detail="a walk over the code as text counts 22 files and 47 returns there",
        ),
    ]


def _wheel() -> Figure:
    """Build the sdist, the wheel from it, and run it beside a ``client.py``."""
    with tempfile.TemporaryDirectory(prefix="fedprune-house-") as name:
        folder = Path(name)
        _run("-m", "hatchling", "build", "-t", "sdist", "-d", name, cwd=_ROOT)
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            archive.extractall(folder / "source", filter="data")
        (source,) = (folder / "source").iterdir()
        _run("-m", "hatchling", "build", "-t", "wheel", "-d", name, cwd=source)
        wheel = str(next(folder.glob("*.whl")))
        site, beside = folder / "site", folder / "beside"
        options = ("--quiet", "--no-deps", "--no-index", "--target", str(site))
        _run("-m", "pip", "install", *options, wheel, cwd=folder)
        beside.mkdir()
        for module in ("client", "common", "server"):
            (beside / f"{module}.py").touch()
        (beside / "script.py").write_text(_SCRIPT, encoding="utf-8")
        said = _run("script.py", cwd=beside, path=str(site))
    return Figure(
        name="a wheel built from the sdist runs beside a client.py",
        value="rounds " in said,
        reference=f"breaks at {_BEFORE}",
        goal="== 1",
        detail="one in-process run outside of the checkout",
    )


def _waiting() -> list[Figure]:
    """Run what a developer waits for; mypy's cache is as the last run left it."""
    fast, check = (wait_for(_ROOT, target) for target in ("test-fast", "check"))
    return [
        Figure(
            name="fast tests",
            value=fast.seconds,
            unit="s",
            reference=f"355 s in one process at {_SERIAL}",
            goal="<= 120",
            detail=_detail(fast),
        ),
        Figure(
            name="fast tests, processor time",
            value=fast.cpu,
            unit="s",
            reference=f"376 s at {_SERIAL}",
            detail="user and system mode, all processes",
        ),
        Figure(
            name="make check",
            value=check.seconds,
            unit="s",
            goal="<= 180",
            detail=f"lint, types, contracts, fast tests; {_detail(check)}",
        ),
        Figure(
            name="make check, processor time",
            value=check.cpu,
            unit="s",
            detail="user and system mode, all processes",
        ),
    ]


def _detail(waited: Waited) -> str:
    return f"load {waited.load:.1f} before it; {waited.says}"


def _run(*words: str, cwd: Path, path: str = "") -> str:
    done = subprocess.run(  # noqa: S603 - our own commands
        [sys.executable, *words],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        msg = f"{' '.join(words[:4])} failed: {done.stderr.strip()[-300:]}"
        raise ConfigError(msg)
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; ``--tests`` adds the targets that a developer waits for."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--tests", action="store_true")
    own, rest = parser.parse_known_args(arguments)
    return benchmark("house", lambda: measure(tests=own.tests))(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
