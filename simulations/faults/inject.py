"""Faults of one client, put into its round in the worker that plays it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fedprune.common.errors import DataError
from fedprune.simulations.faults.plan import Fault

_BITS = 8
_NANO = 10**9


def answer_under(
    fault: Fault, clock_s: float, answer: Callable[[], bytes]
) -> bytes | None:
    """Return a client's answer as it arrives; None = it never does.

    Args:
        fault: What goes wrong.
        clock_s: Seconds that its clock is ahead.
        answer: Trains and encodes.

    Raises:
        DataError: If its training is to raise.
    """
    if fault.hangs:
        return None
    if fault.crashes:
        msg = "its training raised (faults.crash)"
        raise DataError(msg)
    with shifted_clock(clock_s):
        data = answer()
    if fault.drops_out:  # trained and stored, and lost on its way
        return None
    return flipped(data, fault.place) if fault.corrupts else data


def flipped(data: bytes, place: float) -> bytes:
    """Return bytes with one bit flipped.

    Args:
        data: The bytes, at least one.
        place: Place of the bit, 0 <= place < 1.
    """
    number = int(place * len(data) * _BITS)
    out = bytearray(data)
    out[number // _BITS] ^= 1 << number % _BITS
    return bytes(out)


@contextmanager
def shifted_clock(seconds: float) -> Iterator[None]:
    """Let the wall clock of this process be ahead while the block runs.

    Monotonic clocks, which measure durations, stay as they are.
    """
    if seconds == 0.0:
        yield
        return
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * _NANO)
    try:
        yield
    finally:
        time.time, time.time_ns = real, real_ns
