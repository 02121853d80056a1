"""The cases: what ends in a run, at a moment that differs from time to time."""

import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from fedprune.common.config import load_config
from fedprune.common.errors import FedPruneError
from fedprune.common.system.ports import free_port
from fedprune.server.runs.events import RoundFinished, WorkerLost, of_kind, read_events
from fedprune.server.runs.folder import read_json_object
from fedprune.simulations.benchmarks.kit.faults.marked import Marked, send
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.runs.run import run

Case = Callable[[Path, int], Raw]

# Local training takes long enough for a signal to fall into it.
SETTINGS = [
    'task.model="mlp"',
    "task.clients=6",
    "rounds.cohort=6",
    "rounds.minimum=6",
    "rounds.warmup=2",
    "rounds.sparsify=1",
    "rounds.finetune=1",
    "rounds.cuts=2",
    "rounds.final=2",
    "client.epochs=10",
    "run.controls=[]",
]
_WORKERS = 2
_MOMENTS = 5  # rounds in which a signal falls, the second to the sixth
_PLAYING = "ray::_Process.play"
_START_S, _RUN_S, _LEFT_S = 600.0, 1200.0, 60.0
_NO_DASHBOARD = ("--include-dashboard", "false")
_STORE = 100_000_000  # bytes of a node's object store


def undisturbed() -> str:
    """Return the ``model_sha256`` of the run in one process."""
    with tempfile.TemporaryDirectory(prefix="fp-") as name:
        own = [f'run.dir="{name}"', "run.engine=inprocess"]
        summary = run(load_config(None, [*SETTINGS, *own])).summary
    return str(summary["model_sha256"])


def worker_killed(folder: Path, number: int) -> Raw:
    """Kill a worker that plays a job."""
    return _worker(folder, number, signal.SIGKILL)


def worker_stopped(folder: Path, number: int) -> Raw:
    """Stop a worker that plays a job: it neither answers nor ends."""
    return _worker(folder, number, signal.SIGSTOP)


def node_killed(folder: Path, number: int) -> Raw:
    """Kill the Ray node, of two, whose worker plays a job."""
    address = f"127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    home = str(folder / "ray")
    first = _node("--head", "--port", port, "--temp-dir", home, *_NO_DASHBOARD)
    with Marked(first, folder) as head:
        head.until(lambda: _is_up(head), _START_S, "the first node")
        with Marked(_node("--address", address), folder) as second:
            second.until(lambda: _is_up(second), _START_S, "the second node")
            with Marked(_simulate(folder, "--ray-address", address), folder) as driver:
                reached = _reach(driver, folder, number)
                driver.until(lambda: second.titled(_PLAYING), _START_S, "a job there")
                for raylet in _raylets(second):
                    send(raylet, signal.SIGKILL)
                return _ended(driver, folder, reached)


def driver_killed(folder: Path, number: int) -> Raw:
    """Kill the driver while workers play jobs, and resume the run."""
    with Marked(_simulate(folder), folder) as driver:
        reached = _reach(driver, folder, number)
        driver.until(lambda: driver.titled(_PLAYING), _START_S, "a job")
        send(driver.number, signal.SIGKILL)
        code = driver.wait(_LEFT_S)
        if code != -signal.SIGKILL:
            msg = f"the driver ended with {code} before it was killed"
            raise FedPruneError(msg)
        resume = _command("simulate", "--resume", str(_run_of(folder)))
        with Marked(resume, folder) as again:
            return _ended(again, folder, reached)


CASES: dict[str, Case] = {
    "worker-killed": worker_killed,
    "node-killed": node_killed,
    "driver-killed": driver_killed,
    "worker-stopped": worker_stopped,
}
LOSES_WORKERS = tuple(name for name in CASES if name != "driver-killed")


def _worker(folder: Path, number: int, what: signal.Signals) -> Raw:
    with Marked(_simulate(folder), folder) as driver:
        reached = _reach(driver, folder, number)
        playing = driver.until(lambda: driver.titled(_PLAYING), _START_S, "a job")
        send(playing[number % len(playing)], what)
        return _ended(driver, folder, reached)


def _reach(driver: Marked, folder: Path, number: int) -> int:
    """Wait for the end of a round; return how many have ended."""
    wanted = 1 + number % _MOMENTS
    driver.until(lambda: _rounds_of(folder) >= wanted, _START_S, f"round {wanted}")
    return _rounds_of(folder)


def _ended(driver: Marked, folder: Path, reached: int) -> Raw:
    """Wait for the end of a run; return its model and what was lost."""
    code = driver.wait(_RUN_S)
    if code:
        return {"exit": code, "rounds_before": reached, "said": driver.said()}
    found = _run_of(folder)
    lost = list(of_kind(read_events(found / "events.jsonl"), WorkerLost))
    summary = read_json_object(found / "summary.json")
    return {
        "exit": code,
        "rounds_before": reached,
        "lost": [event.reason for event in lost],
        "model_sha256": summary["model_sha256"],
    }


def _rounds_of(folder: Path) -> int:
    """Return how many rounds the run has logged."""
    logs = list((folder / "runs").glob("*/events.jsonl"))
    return len(list(of_kind(read_events(logs[0]), RoundFinished))) if logs else 0


def _run_of(folder: Path) -> Path:
    (found,) = (folder / "runs").glob("*/manifest.json")
    return found.parent


def _simulate(folder: Path, *words: str) -> list[str]:
    settings = [*SETTINGS, f"run.workers={_WORKERS}", f'run.dir="{folder / "runs"}"']
    return _command(
        "simulate", *words, *(word for text in settings for word in ("--set", text))
    )


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fedprune", *words]


def _node(*words: str) -> list[str]:
    """Return the command of a node of Ray with one core."""
    own = ("--num-cpus", "1", "--object-store-memory", str(_STORE))
    ray = str(Path(sys.executable).parent / "ray")
    return [ray, "start", "--block", "--disable-usage-stats", *own, *words]


def _is_up(node: Marked) -> bool:
    return "Ray runtime started" in node.output


def _raylets(node: Marked) -> list[int]:
    """Return the daemon of a node."""
    return [
        number
        for number in node.alive()
        if Path(f"/proc/{number}/comm").read_text(encoding="utf-8").strip() == "raylet"
    ]
