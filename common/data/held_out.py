"""Whether the test part of a data set can judge what its training part taught."""

from hashlib import blake2b

import numpy as np

from fedprune.common.data.examples import Dataset, Examples
from fedprune.common.errors import DataError
from fedprune.common.text import and_more

_LISTED = 5  # classes that a line names
_DIGEST = 16  # bytes for each example
_SHARED = 0.5  # share of test examples that may be training examples without a word


def check_held_out(dataset: Dataset, *, classes: bool) -> tuple[str, ...]:
    """Refuse a test part that no network can be judged by.

    Args:
        dataset: The data.
        classes: Whether the targets are classes, judged by accuracy, or values,
            judged by R squared.

    Returns:
        One line for each thing that is possible and seldom meant.

    Raises:
        DataError: If values are all equal, or no class that is tested is trained.
    """
    if not classes:
        _check_spread(dataset.test)
        return _repeated(dataset)
    return (*_unseen(dataset), *_repeated(dataset))


def _check_spread(test: Examples) -> None:
    """Refuse targets without a spread: R squared divides by it."""
    if (test.targets == test.targets[0]).all():
        held = "1 example" if len(test) == 1 else f"{len(test)} equal targets"
        msg = f"the test data hold {held}, and R squared has no value for that; want"
        msg += " test targets (y_test) that differ"
        raise DataError(msg)


def _unseen(dataset: Dataset) -> tuple[str, ...]:
    """Return a line about classes that are tested and never trained."""
    trained, tested = (
        np.unique(part.targets) for part in (dataset.train, dataset.test)
    )
    unseen = np.setdiff1d(tested, trained)
    if len(unseen) == 0:
        return ()
    if len(unseen) == len(tested):
        msg = f"no test example is of a class that is trained: classes {_span(trained)}"
        msg += f" in training, {_span(tested)} in test; want the same numbering in both"
        raise DataError(msg)
    text = f"{len(unseen)} of {len(tested)} classes of the test data do not occur in"
    text += f" the training data: {and_more(list(unseen), _LISTED)}"
    return (f"{text}; are both numbered alike?",)


def _span(classes: np.ndarray) -> str:
    return f"{classes[0]} to {classes[-1]}"


def _repeated(dataset: Dataset) -> tuple[str, ...]:
    """Return a line about test examples that are training examples, byte for byte."""
    known, tested = set(_digests(dataset.train)), _digests(dataset.test)
    count = sum(digest in known for digest in tested)
    if count <= _SHARED * len(tested):
        return ()
    text = f"{count} of {len(tested)} test examples are training examples too, byte"
    return (f"{text} for byte: the score on them says nothing about new data",)


def _digests(part: Examples) -> list[bytes]:
    """Return what names each example: a digest of its input and its target."""
    return [
        blake2b(x.tobytes() + y.tobytes(), digest_size=_DIGEST).digest()
        for x, y in zip(part.inputs, part.targets, strict=True)
    ]
