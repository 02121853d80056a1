"""One delta out of those of the clients: the mean, or the median over its senders."""

from collections.abc import Iterator, Sequence

import numpy as np

from fedprune.common import codec
from fedprune.common.aggregate import Accumulator
from fedprune.common.messages import ClientRecord, ClientUpdate, SparseDelta, Vector
from fedprune.common.sparsity.sparsify import dense
from fedprune.server.rounds.influence import scaled_delta
from fedprune.server.rounds.plan import RoundWork


def aggregate(
    total: Accumulator,
    singles: Sequence[ClientUpdate],
    records: Sequence[ClientRecord],
    work: RoundWork,
) -> Vector:
    """Return the aggregated delta, float32[n].

    Args:
        total: Sum of the accepted deltas.
        singles: The accepted updates, where the round asked for them; the sum is not
            used then.
        records: The accepted answers: weights, and the factors on the deltas.
        work: The round.
    """
    if not singles:
        return total.mean_delta()
    if work.robust.aggregate == "median":
        deltas = [delta for _, delta in _clipped(singles, records, work)]
        return _median(deltas, work.spec.size)
    fresh = Accumulator(work.spec.size, work.asking.limits)
    for record, delta in _clipped(singles, records, work):
        fresh.add(delta, record.num_examples)
    return fresh.mean_delta()


def _clipped(
    singles: Sequence[ClientUpdate], records: Sequence[ClientRecord], work: RoundWork
) -> Iterator[tuple[ClientRecord, SparseDelta]]:
    """Yield each delta as it counts, in the order of the clients' ids."""
    by_client = {record.client_id: record for record in records}
    for update in sorted(singles, key=lambda update: update.client_id):
        record = by_client[update.client_id]
        delta = codec.dequantise_delta(update.delta, work.spec)
        yield record, scaled_delta(delta, record.factor)


def _median(deltas: Sequence[SparseDelta], size: int) -> Vector:
    """Return the median of each coordinate over the clients that sent it, scaled.

    Most clients of a sparse round send nothing at most coordinates, and a median over
    all would be zero: so it is scaled by the share of the senders (cf.
    arXiv:2505.01454).
    """
    stack = np.stack([dense(delta) for delta in deltas])
    for row, delta in zip(stack, deltas, strict=True):
        silent = np.ones(delta.size, dtype=bool)
        silent[delta.indices] = False
        row[silent] = np.nan
    senders = np.isfinite(stack).sum(axis=0)
    middle = np.zeros(size, dtype=np.float32)
    heard = senders > 0
    middle[heard] = np.nanmedian(stack[:, heard], axis=0)
    scaled: Vector = (middle * (senders / len(stack))).astype(np.float32)
    return scaled
