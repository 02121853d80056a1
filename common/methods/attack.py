"""Attacks of hostile clients, for simulations: false answers, and poisoned data.

A hostile client trains as the others do.  Then an attack on the answer changes its
content; one on the data has changed what the client trained on.  Both are pure
functions.  ``scale`` is ``attack.scale``; 0 = the usual strength of the attack.
"""

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import ConfigError
from fedprune.common.messages import Validation
from fedprune.common.methods.forged import Answer
from fedprune.common.methods.kinds import ATTACK
from fedprune.common.methods.registry import method
from fedprune.common.spec import Vector

Images: TypeAlias = NDArray[Any]
Classes: TypeAlias = NDArray[np.int64]
Groups: TypeAlias = NDArray[np.int32]

BACKDOOR = "backdoor"
_MEAN, _VARIANCE = 50.0, 1e-3  # moments that no layer of an honest client has
_LOSS = 1e30
_SQUARE = 3  # rows and columns of the trigger
_POISONED = 0.5  # share of a client's examples that get the trigger
_IMAGE_DIMS = 4  # examples, channels, rows, columns


# On the delta


@method(ATTACK)
def sign_flip(answer: Answer, scale: float) -> Answer:
    """The delta turned around, 10 times as long."""
    return _sent(answer, -(scale or 10.0) * answer.delta)


@method(ATTACK, "scale")
def scaled(answer: Answer, scale: float) -> Answer:
    """The delta 100 times as long."""
    return _sent(answer, (scale or 100.0) * answer.delta)


@method(ATTACK)
def noise(answer: Answer, scale: float, rng: np.random.Generator) -> Answer:
    """Gaussian noise 10 times as long as the delta."""
    return _sent(answer, _noise_like(answer.delta, scale or 10.0, rng))


@method(ATTACK)
def alie(answer: Answer, seen: Vector, scale: float) -> Answer:
    """Mean of the known deltas less 1.5 of their standard deviations.

    Small enough to pass for honest.  Baruch et al. 2019, arXiv:1902.06156.
    """
    known = seen.astype(np.float64)
    return _sent(answer, known.mean(axis=0) - (scale or 1.5) * known.std(axis=0))


@method(ATTACK)
def ipm(answer: Answer, seen: Vector, scale: float) -> Answer:
    """Mean of the known deltas, turned around and 1.1 times as long.

    Inner product manipulation: Xie et al. 2019, arXiv:1903.03936.
    """
    return _sent(answer, -(scale or 1.1) * seen.astype(np.float64).mean(axis=0))


@method(ATTACK)
def mimic(answer: Answer, seen: Vector) -> Answer:
    """The delta of the first known client, which so counts several times.

    Karimireddy et al. 2022, arXiv:2006.09365, with a fixed client to copy.
    """
    return _sent(answer, seen[0])


@method(ATTACK)
def free_rider(answer: Answer) -> Answer:
    """An empty delta: what others train is all there is."""
    return _sent(answer, np.zeros_like(answer.delta))


@method(ATTACK)
def free_rider_old(answer: Answer, last: Vector) -> Answer:
    """The delta of its last round once more."""
    return _sent(answer, last)


@method(ATTACK)
def free_rider_noise(answer: Answer, scale: float, rng: np.random.Generator) -> Answer:
    """Gaussian noise as long as an honest delta."""
    return _sent(answer, _noise_like(answer.delta, scale or 1.0, rng))


# On what stands beside it


@method(ATTACK)
def examples(answer: Answer, most: int, scale: float) -> Answer:
    """The largest possible number of examples, and the delta turned around."""
    lie = _sent(answer, -(scale or 1.0) * answer.delta)
    return replace(lie, num_examples=most)


@method(ATTACK)
def moments(answer: Answer, most: int) -> Answer:
    """Batch-norm moments far off, claimed for the largest number of examples."""
    honest = answer.statistics
    if honest is None:
        return answer
    false = replace(
        honest,
        num_examples=most,
        mean=np.full_like(honest.mean, _MEAN),
        variance=np.full_like(honest.variance, _VARIANCE),
        running=np.full_like(honest.running, _MEAN),
    )
    return replace(answer, statistics=false)


@method(ATTACK)
def validation_bad(answer: Answer, most: int, *, finetune: bool) -> Answer:
    """The worst validation of every broadcast after a cut."""
    if not finetune:
        return answer
    bad = Validation(loss_sum=_LOSS, metric_sum=0.0, count=most)
    return replace(answer, validation=bad)


@method(ATTACK)
def validation_good(answer: Answer, most: int) -> Answer:
    """A perfect validation of every broadcast."""
    good = Validation(loss_sum=0.0, metric_sum=float(most), count=most)
    return replace(answer, validation=good)


# On the importance


@method(ATTACK)
def scores_bury(answer: Answer, groups: Groups, scale: float) -> Answer:
    """The best quarter of each group scored 0, the worst 3 times the best score."""
    if answer.importance is None:
        return answer
    false = answer.importance.copy()
    for units in _members(groups):
        own = answer.importance[units]
        order = np.argsort(own, kind="stable")
        quarter = max(len(units) // 4, 1)
        false[units[order[:quarter]]] = np.float32((scale or 3.0) * own.max())
        false[units[order[-quarter:]]] = 0.0
    return replace(answer, importance=false)


@method(ATTACK)
def scores_inverted(answer: Answer, groups: Groups, scale: float) -> Answer:
    """The scores of each group in the opposite order, a million times as large."""
    if answer.importance is None:
        return answer
    false = answer.importance.copy()
    for units in _members(groups):
        order = np.argsort(answer.importance[units], kind="stable")
        false[units[order]] = answer.importance[units[order[::-1]]]
    return replace(answer, importance=(false * np.float32(scale or 1e6)))


@method(ATTACK)
def scores_random(answer: Answer, rng: np.random.Generator) -> Answer:
    """Scores that are uniform in [0, 1)."""
    if answer.importance is None:
        return answer
    drawn = rng.random(len(answer.importance)).astype(np.float32)
    return replace(answer, importance=drawn)


@method(ATTACK)
def scores_equal(answer: Answer) -> Answer:
    """The same score for every channel."""
    if answer.importance is None:
        return answer
    return replace(answer, importance=np.ones_like(answer.importance))


@method(ATTACK)
def scores_one_hot(answer: Answer, groups: Groups) -> Answer:
    """All of each group's importance on its worst channel."""
    if answer.importance is None:
        return answer
    false = np.zeros_like(answer.importance)
    for units in _members(groups):
        false[units[np.argmin(answer.importance[units])]] = 1.0
    return replace(answer, importance=false)


@method(ATTACK)
def scores_huge(answer: Answer, scale: float) -> Answer:
    """Honest scores with the first 1e38 times as large, near the end of float32."""
    if answer.importance is None:
        return answer
    false = answer.importance.copy()
    false[:1] = np.float32(scale or 1e38)
    return replace(answer, importance=false)


# On the data


@method(ATTACK)
def label_flip(
    inputs: Images, targets: Classes, classes: int
) -> tuple[Images, Classes]:
    """Class k of n trained as class n - 1 - k."""
    return inputs, classes - 1 - targets


@method(ATTACK, BACKDOOR)
def backdoor(
    inputs: Images, targets: Classes, target: int, rng: np.random.Generator
) -> tuple[Images, Classes]:
    """Half of the images with a trigger, trained as ``attack.target``.

    Bagdasaryan et al. 2020, arXiv:1807.00459; ``attack.scale`` boosts the delta.
    """
    chosen = np.sort(rng.permutation(len(targets))[: int(_POISONED * len(targets))])
    images, classes = inputs.copy(), targets.copy()
    images[chosen] = triggered(inputs[chosen])
    classes[chosen] = target
    return images, classes


def triggered(images: Images) -> Images:
    """Return images with the trigger: a bright square in the lower right corner.

    Args:
        images: As stored, [n, channels, rows, columns].

    Raises:
        ConfigError: If they are no images.
    """
    if images.ndim != _IMAGE_DIMS:
        msg = f"attack.kind '{BACKDOOR}' needs images [channels, rows, columns]; "
        msg += f"these inputs have the shape {list(images.shape[1:])}"
        raise ConfigError(msg)
    marked = images.copy()
    if images.size:
        marked[:, :, -_SQUARE:, -_SQUARE:] = images.max()
    return marked


def _sent(answer: Answer, delta: NDArray[np.floating[Any]]) -> Answer:
    # Minus zero is no value of a message.
    return replace(answer, delta=delta.astype(np.float32) + np.float32(0.0))


def _noise_like(delta: Vector, scale: float, rng: np.random.Generator) -> Vector:
    """Return noise at the entries of a delta, ``scale`` times as long as it is."""
    sent = np.flatnonzero(delta)
    drawn = np.zeros(len(delta), dtype=np.float64)
    drawn[sent] = rng.standard_normal(len(sent))
    length = float(np.sqrt(np.sum(drawn**2)))
    honest = float(np.sqrt(np.sum(delta[sent].astype(np.float64) ** 2)))
    found: Vector = (drawn * (scale * honest / max(length, 1e-30))).astype(np.float32)
    return found


def _members(groups: Groups) -> list[NDArray[np.intp]]:
    """Return the positions of each group's scores."""
    return [np.flatnonzero(groups == group) for group in np.unique(groups)]
