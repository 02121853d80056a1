"""Checks of a data set's test part: spread, unseen classes, repeated examples."""

from hashlib import blake2b

import numpy as np

from fedprune.common.data.examples import ArrayExamples, Dataset, Examples
from fedprune.common.data.pages import blocks
from fedprune.common.errors import DataError
from fedprune.common.text import and_more

_LISTED = 5  # classes that a line names
_DIGEST = 16  # bytes for each example
_SHARED = 0.5  # share of test examples that may be training examples without a warning


def check_held_out(dataset: Dataset, *, classes: bool) -> tuple[str, ...]:
    """Refuse a test part on which no network can be scored.

    Args:
        dataset: The data.
        classes: Whether the targets are classes, scored by accuracy, or values,
            scored by R squared.

    Returns:
        One warning a line for each allowed but unusual property.

    Raises:
        DataError: If values are all equal, or no class that is tested is trained.
    """
    if not classes:
        _check_spread(_targets(dataset.test))
        return _repeated(dataset)
    return (*_unseen(dataset), *_repeated(dataset))


def _check_spread(targets: np.ndarray) -> None:
    """Refuse targets without variance: R squared divides by it."""
    if len(targets) and (targets == targets[0]).all():
        found = "1 example" if len(targets) == 1 else f"{len(targets)} equal targets"
        msg = f"the test data are {found}, for which R squared is undefined; want"
        msg += " test targets (y_test) that differ"
        raise DataError(msg)


def _unseen(dataset: Dataset) -> tuple[str, ...]:
    """Return a warning about classes that are tested and never trained."""
    trained, tested = (
        np.unique(_targets(part)) for part in (dataset.train, dataset.test)
    )
    unseen = np.setdiff1d(tested, trained)
    if len(unseen) == 0:
        return ()
    if len(unseen) == len(tested):
        msg = "no test example has a class of the training data: classes "
        msg += f"{_span(trained)} in training, {_span(tested)} in test; want the same"
        msg += " numbering in both"
        raise DataError(msg)
    text = f"{len(unseen)} of {len(tested)} classes of the test data do not occur in"
    text += f" the training data: {and_more(list(unseen), _LISTED)}"
    return (f"{text}; are both numbered alike?",)


def _targets(part: Examples) -> np.ndarray:
    """Return the targets of a part; none where they are not known."""
    found = part.targets
    return np.zeros(0) if found is None else found


def _span(classes: np.ndarray) -> str:
    return f"{classes[0]} to {classes[-1]}"


def _repeated(dataset: Dataset) -> tuple[str, ...]:
    """Return a warning about test examples repeated from the training examples.

    Examples that are no arrays are not compared: all of them may be more than can be
    read before a run.
    """
    train, test = dataset.train, dataset.test
    if not isinstance(train, ArrayExamples) or not isinstance(test, ArrayExamples):
        return ()
    known, tested = set(_digests(train)), _digests(test)
    count = sum(digest in known for digest in tested)
    if count <= _SHARED * len(tested):
        return ()
    text = f"{count} of {len(tested)} test examples are training examples too, byte"
    return (f"{text} for byte: the score on them says nothing about new data",)


def _digests(part: ArrayExamples) -> list[bytes]:
    """Return a digest of each example's input and target."""
    inputs = (x for block in blocks(part.inputs) for x in block)
    return [
        blake2b(x.tobytes() + y.tobytes(), digest_size=_DIGEST).digest()
        for x, y in zip(inputs, part.targets, strict=True)
    ]
