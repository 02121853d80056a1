"""Trace of one encoded update: the files that its calls enter."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from fedprune.common import codec
from fedprune.common.codec import encode_update
from fedprune.simulations.benchmarks.kit.codec.subjects import update_and_side_info

_HOME = str(Path(codec.__file__).parents[2])  # co_filename is not resolved


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Trace of one call.

    Attributes:
        files: Own files that were entered.
        returns: Number of entries into files left before.
    """

    files: int
    returns: int


def walk_of_an_encode() -> Walk:
    """Encode one small update and return the trace of its calls."""
    stays: list[str] = []

    def enter(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        if event != "call" or not name.startswith(_HOME):
            return
        if not stays or stays[-1] != name:
            stays.append(name)

    update, side_info = update_and_side_info()
    sys.setprofile(enter)
    try:
        encode_update(update, side_info)
    finally:
        sys.setprofile(None)
    return Walk(files=len(set(stays)), returns=len(stays) - len(set(stays)))
