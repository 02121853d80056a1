"""Reconstruction at the server: what clients tell of layers' inputs, and its use."""

from collections.abc import Sequence
from math import ceil, log2

import numpy as np

from fedprune.common.codec import value_bits
from fedprune.common.config import Config, is_pretrained
from fedprune.common.errors import ConfigError
from fedprune.common.messages import Covariances
from fedprune.common.methods.kinds import AUTO
from fedprune.common.pruning.reconstruction.inputs import (
    MOST_CHANNELS,
    Place,
    layer_inputs,
    places,
    sizes,
)
from fedprune.common.pruning.reconstruction.weights import Matrix, reconstruct
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import Structure
from fedprune.common.text import and_more
from fedprune.server.rounds.influence import clip_columns
from fedprune.server.rounds.records import ClientRecord
from fedprune.server.rounds.state import RunSpec, ServerState
from fedprune.server.rounds.steps.frozen import keep_values

_CLIPPED = 3  # clients below which nothing can be clipped (``clip_columns``)
_HALF = 2  # bytes of a float16
_FLOAT = 4  # bytes of a float32
_POSITION_BITS = 1.5  # of an entry, beyond those of its share
_NAMED = 3  # layers in a message
_BLOCK = 1 << 16  # pairs that are pooled at once: memory grows with clients times these


def reconstructs(config: Config, structure: Structure) -> bool:
    """Return whether clients tell covariances before cuts.

    Args:
        config: The configuration.
        structure: The dense network, which the first cut round asks about.
    """
    wanted = config.prune.reconstruct
    if wanted != AUTO:
        return bool(wanted)
    return is_pretrained(config.task) and not what_hinders(config, structure)


def what_hinders(config: Config, structure: Structure) -> str:
    """Return why ``prune.reconstruct = "auto"`` is off for pretrained weights, or "".

    It is on for weights that a run keeps, unless noise hides the clients or may do so
    on their side (``update.stateless``), or an answer would be longer than
    ``update.max_bytes`` or tell more bytes than the dense network has.

    Args:
        config: The configuration.
        structure: The dense network, which the first cut round asks about.
    """
    told, dense = told_bytes(structure), structure.spec(structure.full()).size
    hinders = (
        (config.prune.restart != "keep", "prune.restart draws weights anew"),
        (config.privacy.hides_clients, "noise hides the clients"),
        (config.update.stateless, "update.stateless clients may hide themselves"),
        (not told, "none of them reads channels that can be cut"),
        (
            told + _usual_bytes(config, structure) > config.update.max_bytes,
            f"{told} bytes more before a cut do not fit update.max_bytes",
        ),
        (told > _FLOAT * dense, "clients would tell more bytes than the network has"),
    )
    return next((reason for is_so, reason in hinders if is_so), "")


def check_reconstruct(config: Config, structure: Structure) -> tuple[str, ...]:
    """Check before a run that clients can tell covariances.

    Args:
        config: Its configuration.
        structure: The dense network, which the first cut round asks about.

    Returns:
        A line where no layer can be rebuilt.

    Raises:
        ConfigError: If an answer would not fit ``update.max_bytes``.
    """
    if config.prune.reconstruct is not True or not config.rounds.cuts:
        return ()
    told = told_bytes(structure)
    if not told:
        text = "prune.reconstruct changes nothing: no layer reads channels that can be"
        return (f"{text} cut, {MOST_CHANNELS} of them at most",)
    whole, most = told + _usual_bytes(config, structure), config.update.max_bytes
    if whole > most:
        widest = sorted(layer_inputs(structure), key=lambda one: -len(one.units))
        layers = and_more([f"'{i.module}' {len(i.units)}" for i in widest], _NAMED)
        msg = f"prune.reconstruct: an answer before a cut would take about {whole} "
        msg += f"bytes, {told} of them for the channels that layers read ({layers}), "
        msg += f"and update.max_bytes is {most}; want update.max_bytes of at least "
        raise ConfigError(msg + f"{whole}, or prune.reconstruct = false")
    return ()


def told_bytes(structure: Structure) -> int:
    """Return the bytes of the dense network's covariances, 0 where it has none."""
    channels, pairs = sizes(structure, structure.full())
    return _HALF * (2 * channels + pairs)


def _usual_bytes(config: Config, structure: Structure) -> int:
    """Return the estimated bytes of an answer without covariances."""
    spec, update = structure.spec(structure.full()), config.update
    density = max(update.update_density, min(update.min_entries / spec.size, 1.0))
    bits = value_bits(update.values) + log2(1.0 / density) + _POSITION_BITS
    scores = 4 * structure.units + 2 * _HALF * spec.moments + 4 * spec.running_size
    return ceil(density * spec.size * bits / 8) + scores


def rebuilt_weights(
    moved: ServerState, new: Mask, records: Sequence[ClientRecord], run_spec: RunSpec
) -> Vector:
    """Return the weights of the network that is cut, ready for the cut to ``new``.

    They are the state's own where too few clients told covariances (none are asked for
    without ``prune.reconstruct``).

    Args:
        moved: The state before the cut.
        new: Keep mask after it, bool[units].
        records: The accepted answers.
        run_spec: Structure, frozen modules, bounds.
    """
    config, structure = run_spec.config, run_spec.structure
    if not most_tell(records) or np.array_equal(new, moved.keep):
        return moved.weights
    layout = tuple(places(structure, moved.keep))
    pooled = pool_covariances(records, layout, config.robust.max_moment)
    changed = reconstruct(moved.weights, structure, moved.keep, new, pooled)
    tensors = structure.spec(moved.keep).tensors
    return keep_values(moved.weights, changed, tensors, config.task.freeze)


def most_tell(records: Sequence[ClientRecord]) -> bool:
    """Return whether enough of the accepted answers have covariances to use them."""
    return sum(r.covariances is not None for r in records) >= _fewest(len(records))


def _fewest(answers: int) -> int:
    """Return the clients that must tell of an input: most of them, and three of more.

    Fewer could be led by one that lies, for the median of the clients bounds each.
    """
    return max(answers // 2 + 1, min(answers, _CLIPPED))


def pool_covariances(
    records: Sequence[ClientRecord], layout: Sequence[Place], multiple: float
) -> Covariances:
    """Pool what clients tell, as if their examples were those of one client.

    Each client's numbers are clipped as batch-norm moments are (``pooled_moments``),
    and weigh as much as its delta.  A client that did not measure an input has no part
    in it; an input that only few measured stays unmeasured.

    Args:
        records: All accepted answers, with and without covariances.
        layout: Where each input stands in them; at least one.
        multiple: ``robust.max_moment``; 0 = nothing is clipped.
    """
    told = [
        (one.num_examples, one.covariances)
        for one in sorted(records, key=lambda r: r.client_id)
        if one.covariances is not None
    ]
    found = Covariances(
        mean=np.zeros(layout[-1].channels.stop, dtype=np.float32),
        deviation=np.zeros(layout[-1].channels.stop, dtype=np.float32),
        correlation=np.zeros(layout[-1].pairs.stop, dtype=np.float32),
    )
    for place in layout:
        at, pairs = place.channels, place.pairs
        measured = [(n, one) for n, one in told if one.deviation[at].any()]
        if len(measured) >= _fewest(len(records)):
            one = _pooled(measured, place, multiple)
            found.mean[at], found.deviation[at], found.correlation[pairs] = one
    return found


def _pooled(
    told: Sequence[tuple[int, Covariances]], place: Place, multiple: float
) -> tuple[Matrix, Matrix, Matrix]:
    """Return mean, deviation and correlations of one input over all examples."""
    at, first = place.channels, place.pairs.start
    examples = np.array([number for number, _ in told], dtype=np.float64)
    share = (examples / examples.sum())[:, None]
    mean = _clipped([one.mean[at] for _, one in told], multiple)
    spread = np.maximum(_clipped([one.deviation[at] for _, one in told], multiple), 0)
    middle = (share * mean).sum(axis=0)
    own = mean - middle
    total = np.sqrt((share * (spread**2 + own**2)).sum(axis=0))
    scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    rows, columns = np.tril_indices(mean.shape[1], -1)
    pooled = np.zeros(len(rows))
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, min(start + _BLOCK, len(rows)))
        pairs = slice(first + part.start, first + part.stop)
        alike = _clipped([one.correlation[pairs] for _, one in told], multiple)
        low, high = rows[part], columns[part]
        both = np.clip(alike, -1.0, 1.0) * spread[:, low] * spread[:, high]
        both += own[:, low] * own[:, high]
        pooled[part] = (share * both).sum(axis=0) * scale[low] * scale[high]
    return middle, total, np.clip(pooled, -1.0, 1.0)


def _clipped(rows: Sequence[Vector], multiple: float) -> Matrix:
    return clip_columns(np.stack(rows).astype(np.float64), multiple)
