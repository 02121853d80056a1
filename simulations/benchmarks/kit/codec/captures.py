"""Real updates: deltas as clients encode them, with their side information."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from fedprune.common import codec
from fedprune.common.codec import SideInformation
from fedprune.common.config import load_config
from fedprune.common.messages import ClientUpdate, QuantisedDelta
from fedprune.simulations.experiments import LENET
from fedprune.simulations.runs.run import run

Captured = dict[int, list[tuple[QuantisedDelta, SideInformation]]]


class _Enough(BaseException):
    """Ends the run: no part of the product catches it."""


def captures(rounds: tuple[int, ...], clients: int) -> Captured:
    """Return deltas that clients of ``mnist-lenet5`` sent in some rounds.

    Args:
        rounds: Rounds that are captured; the run ends with the last one.
        clients: Answers a round; the experiment itself asks 10 clients.

    Raises:
        ConfigError: If ``FEDPRUNE_DATA`` has no MNIST.
    """
    found: Captured = {number: [] for number in rounds}
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        settings = [
            f'run.dir="{folder}"',
            'run.engine="inprocess"',
            "run.controls=[]",
            "run.evaluate_every=100",
            f"rounds.cohort={clients}",
            f"rounds.minimum={clients}",
        ]
        with _kept(found, clients):
            try:
                run(load_config(LENET, settings))
            except _Enough:
                return found
    return found


@contextmanager
def _kept(found: Captured, clients: int) -> Iterator[None]:
    """Capture the arguments of ``encode_update``."""
    encode = codec.encode_update

    def keeping(update: ClientUpdate, side_info: SideInformation) -> bytes:
        if update.round in found:
            found[update.round].append((update.delta, side_info))
            if update.round == max(found) and len(found[update.round]) == clients:
                raise _Enough
        return encode(update, side_info)

    codec.encode_update = keeping
    try:
        yield
    finally:
        codec.encode_update = encode
