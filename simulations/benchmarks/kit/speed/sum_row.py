"""Row ``sum``: aggregation of dense and sparse updates, against a copy of memory."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from fedprune.common.aggregate import Accumulator, Limits
from fedprune.common.messages import SparseDelta
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.rows import Found, Piece, Row
from fedprune.simulations.benchmarks.kit.speed.figures import over_pairs

_WEIGHTS, _ENTRIES = 11_000_000, 530_000
_SHORTER = 100  # of the small row
_REPEATS = 7
_LIMITS = Limits(clients=1000, max_examples=1000)
_EXAMPLES = 600


def measure(weights: int, entries: int) -> Raw:
    """Return the least CPU seconds of a copy, a dense and a sparse sum, in turns."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.01, weights).astype(np.float32)
    chosen = np.sort(rng.choice(weights, entries, replace=False))
    everything = SparseDelta(size=weights, indices=np.arange(weights), values=values)
    some = SparseDelta(size=weights, indices=chosen, values=values[chosen])
    copied = np.empty_like(values)
    total = Accumulator(weights, _LIMITS)
    actions: dict[str, Callable[[], object]] = {
        "copy": partial(np.copyto, copied, values),
        "dense": partial(total.add, everything, _EXAMPLES),
        "sparse": partial(total.add, some, _EXAMPLES),
    }
    least = dict.fromkeys(actions, float("inf"))
    for _ in range(_REPEATS):
        for name, action in actions.items():
            started = time.process_time()
            action()
            least[name] = min(least[name], time.process_time() - started)
    return {name: round(value, 7) for name, value in least.items()}


def figures(found: Found) -> list[Figure]:
    """Return the figures of all pieces."""
    raws = list(found.values())
    first = raws[0]
    entries = first["settings"]["entries"]
    note = f"CPU, least of {_REPEATS} in turns; "
    return [
        over_pairs(
            "sum: dense / copy of the float32 weights",
            [raw["dense"] / raw["copy"] for raw in raws],
            f"{note}{1e3 * first['dense']:.1f} and {1e3 * first['copy']:.1f} ms for "
            f"{first['settings']['weights']} weights",
            goal="<= 3",
            reference="12-20",
        ),
        over_pairs(
            "sum: sparse, per entry that is not zero",
            [1e9 * raw["sparse"] / entries for raw in raws],
            f"{note}{entries} entries, their places drawn",
            unit="ns",
            goal="<= 4",
            reference="9.2",
        ),
    ]


def row(*, small: bool = False) -> Row:
    """Return the row."""
    shorter = _SHORTER if small else 1
    weights, entries = _WEIGHTS // shorter, _ENTRIES // shorter
    settings = {"weights": weights, "entries": entries}
    work = partial(measure, weights, entries)

    def pieces(pairs: Sequence[int]) -> list[Piece]:
        return [Piece(name=f"pair-{n}", settings=settings, work=work) for n in pairs]

    return Row(
        name="sum", budget="1 minute for three pairs", pieces=pieces, figures=figures
    )
