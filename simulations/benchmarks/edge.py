"""Disk and memory of a device: a client install, with LeNet-5 on digits.

``python -m fedprune.simulations.benchmarks.edge``.  The environment
variable FEDPRUNE_EDGE_PYTHON names the interpreter of an environment in which
``pip install .`` was done without extras; without it, this environment is measured.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fedprune.common.data.sources import load_dataset
from fedprune.common.errors import ConfigError
from fedprune.simulations.benchmarks.kit.fleet import Fleet, descendants, pss_mb
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.split import split_data

CLIENTS = 3
EPOCHS = 2
_LIMIT_S = 1800.0  # generous: memory is measured, not time
# Flower's imports in a client app of its own.
FLOWER = ("flwr.app", "flwr.clientapp", "flwr.supernode.runtime.run_clientapp")
ABSENT = ("ray", "sklearn", "pyarrow", "PIL", "onnx", "timm", "datasets")
CONFIG = """\
[task]
model = "lenet5"
clients = 3
outputs = 10
input_shape = [1, 28, 28]
[rounds]
warmup = 2
sparsify = 1
finetune = 1
cuts = 1
final = 1
cohort = 3
minimum = 3
[client]
epochs = 2
penalty = "group"
[prune]
budget = { params = 0.5 }
"""


def measure() -> list[Figure]:
    """Run three devices; measure the first."""
    python = Path(os.environ.get("FEDPRUNE_EDGE_PYTHON", sys.executable))
    if not python.is_file():
        msg = f"FEDPRUNE_EDGE_PYTHON: there is no {python}"
        raise ConfigError(msg)
    peaks = {"all": 0.0, "executor": 0.0}

    def watch(devices: list[int]) -> None:
        peaks["all"] = max(peaks["all"], pss_mb(devices[0]))
        for number in descendants(devices[0]):
            if b"fedprune.client.executor" in _command_line(number):
                peaks["executor"] = max(peaks["executor"], pss_mb(number))

    with tempfile.TemporaryDirectory(prefix="fedprune-edge-") as name:
        folder = Path(name)
        files = split_data("digits", folder / "data", clients=CLIENTS, size=28)
        config = folder / "fedprune.toml"
        config.write_text(CONFIG, encoding="utf-8")
        sources = [f"npz:{path}" for path in files]
        with Fleet(
            folder=folder, config=config, sources=sources, python=python
        ) as fleet:
            summary = fleet.run(_LIMIT_S, watch)
        examples = len(load_dataset(sources[0], data_dir="", fold=0).train)
        plain = _plain(python, examples)
        flower = _plain(python, examples, *FLOWER)
    own = "FEDPRUNE_EDGE_PYTHON" in os.environ
    where = "an install without extras" if own else "this environment"
    rounds = f"LeNet-5, {summary['rounds']} rounds, {CLIENTS} devices"
    return [
        *_install(python),
        Figure(
            name="memory of a device, all processes",
            value=peaks["all"],
            unit="MB PSS",
            goal="<= 700",
            detail=f"{rounds}; {where}",
        ),
        Figure(
            name="memory of the executor",
            value=peaks["executor"],
            unit="MB PSS",
            detail="Flower, torch, data, networks",
        ),
        Figure(
            name="memory above the same loop in a Flower client",
            value=peaks["executor"] - flower,
            unit="MB PSS",
            reference=f"{flower:.0f} MB",
            goal="<= 40",
            detail="torch loop, with Flower's client modules imported",
        ),
        Figure(
            name="memory above a torch loop alone",
            value=peaks["executor"] - plain,
            unit="MB PSS",
            reference=f"{plain:.0f} MB",
            detail="no Flower in that process",
        ),
    ]


def _install(python: Path) -> list[Figure]:
    """Return the size of the installation, and its number of heavy extras."""
    script = (
        "import sysconfig; from importlib.util import find_spec as f; "
        "print(sysconfig.get_path('purelib')); "
        f"print(*[n for n in {ABSENT!r} if f(n)])"
    )
    said = _output([str(python), "-c", script]).splitlines()
    files = [p for p in Path(said[0]).rglob("*") if p.is_file() and not p.is_symlink()]
    extras = said[1].split() if len(said) > 1 else []
    torch = sum(p.stat().st_size for p in files if "torch" in p.parts)
    return [
        Figure(
            name="size of the installation",
            value=sum(path.stat().st_size for path in files) / 1e6,
            unit="MB",
            detail=f"torch {torch / 1e6:.0f} MB of it",
        ),
        Figure(
            name="heavy extras installed",
            value=len(extras),
            goal="== 0",
            detail=", ".join(extras) or f"none of {', '.join(ABSENT)}",
        ),
    ]


def _plain(python: Path, count: int, *modules: str) -> float:
    script = Path(__file__).parent / "kit" / "plain_loop.py"
    return float(_output([str(python), str(script), str(count), str(EPOCHS), *modules]))


def _output(command: list[str]) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(  # noqa: S603 - our own script
        command, capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout


def _command_line(number: int) -> bytes:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b""


main = benchmark("edge", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
