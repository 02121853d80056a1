"""Bytes to a worker on Ray beside the round's own: measured where they are sent."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from ray import cloudpickle

from fedprune.common.config import load_config
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw, RowStore
from fedprune.simulations.engines.jobs import decode_job
from fedprune.simulations.engines.player import MAX_BYTES, from_content
from fedprune.simulations.engines.pool import Pool
from fedprune.simulations.runs.run import run

_BEFORE = 56e6  # bytes in a message when a task had its data in it
_SETTINGS: dict[str, object] = {
    "task": {"model": "lenet5", "data": "mnist", "clients": 4},
    "rounds": {"warmup": 1, "cuts": 0, "final": 0, "cohort": 4, "minimum": 4},
    "client.epochs": 1,
    "run": {"engine": "ray", "workers": 2, "controls": []},
}


def messages(store: RowStore) -> list[Figure]:
    """Return what one MNIST round sends to each worker beside its broadcast."""
    found = store.get("messages", _measure)
    beside = [m["message"] - m["broadcasts"] for m in found["messages"]]
    whole = ", ".join(f"{m['message'] / 1e3:.1f} kB" for m in found["messages"])
    return [
        Figure(
            name="messages: bytes to a worker beside the broadcast",
            value=max(beside) / 1e3,
            unit="kB",
            reference=f"{_BEFORE / 1e6:.0f} MB with the data in it",
            goal="<= 64",
            detail=f"LeNet-5, MNIST, 2 workers; whole messages {whole}; beside them "
            f"the client app, once a worker, {found['app'] / 1e3:.1f} kB",
        ),
        Figure(
            name="messages: clients that failed",
            value=found["failed"],
            goal="== 0",
        ),
    ]


def _measure() -> Raw:
    sent: list[dict[str, int]] = []
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder, _watched(sent):
        summary = run(load_config(None, {**_SETTINGS, "run.dir": folder})).summary
    return {
        "messages": sent,
        "app": max(one["app"] for one in sent),
        "failed": int(str(summary["failed"])) + int(str(summary["refused"])),
    }


@contextmanager
def _watched(sent: list[dict[str, int]]) -> Iterator[None]:
    """Record the sizes of each job that Flower gives to a worker."""
    play = Pool.play

    def watched(pool: Pool, job: str, data: bytes) -> bytes:
        message, _ = cloudpickle.loads(data)
        request = decode_job(from_content(message, MAX_BYTES))
        sent.append(
            {
                "message": len(data),
                "app": len(pool.packed),
                "broadcasts": sum(len(one) for one in request.variants),
            }
        )
        return play(pool, job, data)

    with mock.patch.object(Pool, "play", watched):
        yield
