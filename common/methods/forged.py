"""The content of an answer as a hostile client of a simulation may change it."""

from dataclasses import dataclass

from fedprune.common.messages import Statistics, Validation
from fedprune.common.spec import Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer after decoding, without what names it.

    Attributes:
        delta: float32[weights], zero where nothing is sent.
        num_examples: Examples trained on, >= 1.
        importance: float32[kept units], >= 0, or None where the round asks for none.
        statistics: Batch-norm moments and running values, or None.
        validation: Validation of the broadcast.
    """

    delta: Vector
    num_examples: int
    importance: Vector | None
    statistics: Statistics | None
    validation: Validation
