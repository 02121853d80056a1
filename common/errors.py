"""Errors: every class that FedPrune raises on purpose, with its exit code.

The tree::

    FedPruneError            5  the run failed; it can be resumed
    +-- ConfigError          2  the user must change the configuration or the call
    |   +-- StructureError   2  a network whose channels cannot be cut safely
    +-- DataError            3  data is missing or unusable
    +-- PayloadError         6  bytes from outside are not a valid message
    |   +-- StaleUpdate      6  valid bytes that answer another round, plan or model
    +-- RoundError           4  too few clients answered
    +-- StorageError         5  a file cannot be written; mend it, then resume
    +-- IntegrityError       6  a file is truncated, changed or foreign

A message gives the value found, the value wanted, and the location; errors of other
libraries are translated where they are called, with ``from``.
"""

from enum import StrEnum


class FedPruneError(Exception):
    """Root of all errors raised on purpose."""

    exit_code = 5


class ConfigError(FedPruneError):
    """The configuration or the call is wrong; the user must change it."""

    exit_code = 2


class StructureError(ConfigError):
    """The network has an operation whose channels cannot be followed safely."""


class DataError(FedPruneError):
    """Data is missing, empty or of the wrong shape or type."""

    exit_code = 3


class Reason(StrEnum):
    """Reason of a refusal: one code for each family of checks."""

    TOO_LARGE = "TOO_LARGE"
    BAD_FRAME = "BAD_FRAME"
    BAD_DIGEST = "BAD_DIGEST"
    BAD_SIZE = "BAD_SIZE"
    BAD_VALUE = "BAD_VALUE"
    NON_FINITE = "NON_FINITE"
    MISMATCH = "MISMATCH"
    UNKNOWN = "UNKNOWN"


class PayloadError(FedPruneError):
    """Bytes from outside are not a valid message.

    Attributes:
        reason: The family of the failed check.
        field: The field of the message that is wrong, for example
            ``"delta.positions"`` or ``"conv1.weight"``.
    """

    exit_code = 6

    def __init__(self, reason: Reason, field: str, detail: str) -> None:
        super().__init__(f"field '{field}': {detail} (code {reason})")
        self.reason = reason
        self.field = field


class StaleUpdate(PayloadError):  # noqa: N818 - it names the message, not a fault
    """A valid message that answers another run, round, plan or model."""


class RoundError(FedPruneError):
    """A round could not be completed: too few clients answered."""

    exit_code = 4


class StorageError(FedPruneError):
    """A file of this machine cannot be written, as on a full disk."""


class IntegrityError(FedPruneError):
    """A file is truncated, changed, or belongs to another run or network."""

    exit_code = 6
