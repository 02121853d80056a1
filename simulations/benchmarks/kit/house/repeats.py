"""Counts of repeated work on the same object in a round."""

import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from fedprune.client.rounds import opened
from fedprune.common import codec
from fedprune.common.codec.messages import update
from fedprune.common.config import load_config
from fedprune.common.messages import RoundPlan
from fedprune.simulations.runs.run import run

_RUN = {
    "task.clients": 4,
    "rounds.cohort": 4,
    "rounds.minimum": 4,
    "rounds.warmup": 1,
    "rounds.sparsify": 1,
    "rounds.finetune": 1,
    "rounds.cuts": 1,
    "rounds.final": 1,
    "client.epochs": 1,
    "run.engine": "inprocess",
    "run.controls": [],
}


def _key(*, plan: RoundPlan, **_: object) -> object:
    return plan.round, plan.client_id


def most_repeats() -> dict[str, int]:
    """Return the most times that each kind of work was done to one object in a run."""
    seen: Counter[tuple[str, object]] = Counter()
    kept: list[object] = []  # so that no other object gets the id of one

    with (
        ExitStack() as stack,
        tempfile.TemporaryDirectory(prefix="fedprune-") as folder,
    ):

        def watch(kind: str, owner: Any, name: str, key: Callable[..., object]) -> None:  # noqa: ANN401
            real = getattr(owner, name)

            def counted(*given: object, **named: object) -> object:
                kept.append(given)
                seen[kind, key(*given, **named)] += 1
                return real(*given, **named)

            stack.enter_context(patch.object(owner, name, counted))

        watch("plan opened", opened, "OpenedPlan", _key)
        watch("broadcast encoded", codec, "encode_full", lambda grid, _: grid.name)
        watch("broadcast stored", codec, "encode_stored", lambda _, grid: grid.name)
        watch("answer decoded", codec, "decode_update", lambda data, _: data)
        watch("delta dequantised", update, "dequantise_delta", lambda d, _: id(d))
        watch("delta dequantised", codec, "dequantise_delta", lambda d, _: id(d))
        run(load_config(None, {**_RUN, "run.dir": folder}))
    found: dict[str, int] = {}
    for (kind, _), times in seen.items():
        found[kind] = max(found.get(kind, 0), times)
    return found
