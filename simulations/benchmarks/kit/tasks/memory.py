"""Memory of a run on Ray with more than a gigabyte of images."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fedprune.common.errors import FedPruneError
from fedprune.common.system.processes import end_with_parent
from fedprune.simulations.benchmarks.kit.fleet import descendants
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw, RowStore

IMAGES, SIDE = 24_500, 128  # x 3 bytes: 1.2 GB
_TEST = 200
_BEFORE = "10.5 GB before data were shared"
_POLL_S = 0.5
_LIMIT_S = 1800.0
_CLASSES = 10
_OPTIONS = (
    "task.model=mlp", "task.clients=500", "task.partition.kind=iid",
    "rounds.warmup=1", "rounds.cuts=0", "rounds.final=0", "rounds.cohort=10",
    "rounds.minimum=5", "client.epochs=1", "client.validation=0", "run.workers=2",
    "run.controls=[]", "update.error_feedback=false",
)  # fmt: skip


def memory(store: RowStore) -> list[Figure]:
    """Return the largest memory of all processes of a run."""
    found = store.get("memory", _measure)
    detail = (
        f"{found['data'] / 1e9:.2f} GB of uint8 images in an npz, an MLP, 2 workers, "
        f"{found['processes']} processes, Ray's own too; 10 of 500 clients train"
    )
    return [
        Figure(
            name="memory: all processes, PSS",
            value=found["pss"] / 1e9,
            unit="GB",
            reference=_BEFORE,
            goal="<= 3",
            detail=f"{detail}; a page that several share counts once",
        ),
        Figure(
            name="memory: all processes, RSS",
            value=found["rss"] / 1e9,
            unit="GB",
            reference="",
            detail="the same moments; a shared page counts in each process",
        ),
    ]


def _measure() -> Raw:
    with tempfile.TemporaryDirectory(prefix="fedprune-memory-") as name:
        folder = Path(name)
        source = folder / "images.npz"
        size = _write(source)
        peak = _watched(folder, source)
    return {"data": size, **peak}


def _write(path: Path) -> int:
    """Write random images; return their bytes."""
    rng = np.random.default_rng(0)
    images = np.empty((IMAGES, 3, SIDE, SIDE), dtype=np.uint8)
    for image in images:
        image[:] = rng.integers(0, 256, image.shape, dtype=np.uint8)
    classes = rng.integers(0, _CLASSES, IMAGES)
    np.savez(
        path,
        x_train=images,
        y_train=classes,
        x_test=images[:_TEST],
        y_test=classes[:_TEST],
    )
    return images.nbytes


def _watched(folder: Path, source: Path) -> dict[str, int]:
    """Run a federation in a process of its own; return its peaks."""
    options = [f"task.data=npz:{source}", f"run.dir={folder}", *_OPTIONS]
    words = [word for option in options for word in ("--set", option)]
    peak = {"pss": 0, "rss": 0, "processes": 0}
    with (folder / "out").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "fedprune", "simulate", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=end_with_parent,  # noqa: PLW1509 - no threads here
        )
        end = time.monotonic() + _LIMIT_S
        while process.poll() is None and time.monotonic() < end:
            now = _sizes(process.pid)
            peak = {key: max(peak[key], now[key]) for key in peak}
            time.sleep(_POLL_S)
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        said = (folder / "out").read_text(encoding="utf-8", errors="replace")
        msg = f"the run of the row memory failed: {said[-500:]}"
        raise FedPruneError(msg)
    return peak


def _sizes(number: int) -> dict[str, int]:
    """Return the bytes of a process and its descendants, PSS and RSS."""
    found = {"pss": 0, "rss": 0, "processes": 0}
    for each in (number, *descendants(number)):
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        rows = [line.split() for line in text.splitlines()]
        kilobytes = {row[0]: int(row[1]) for row in rows if row[0] in {"Pss:", "Rss:"}}
        found["pss"] += 1024 * kilobytes.get("Pss:", 0)
        found["rss"] += 1024 * kilobytes.get("Rss:", 0)
        found["processes"] += 1
    return found
