"""Faults of one client in its worker."""

import time

import pytest

from fedprune.common.errors import DataError
from fedprune.simulations.faults.inject import answer_under, flipped, shifted_clock
from fedprune.simulations.faults.plan import Fault


def asked(fault, clock_s=0.0):
    calls = []

    def answer():
        calls.append(time.time())
        return b"answer"

    return answer_under(fault, clock_s, answer), calls


def test_an_answer_passes_as_it_is():
    data, calls = asked(Fault())
    assert (data, len(calls)) == (b"answer", 1)


def test_who_hangs_does_not_train_and_who_drops_out_does():
    data, calls = asked(Fault(hangs=True))
    assert (data, calls) == (None, [])
    data, calls = asked(Fault(drops_out=True))
    assert (data, len(calls)) == (None, 1)


def test_who_crashes_raises_and_has_not_trained():
    calls = []
    with pytest.raises(DataError, match=r"faults\.crash"):
        answer_under(Fault(crashes=True), 0.0, lambda: calls.append(1) or b"")
    assert calls == []


@pytest.mark.parametrize("place", [0.0, 0.3, 0.999999, 1 - 2**-53])
def test_exactly_one_bit_is_flipped_somewhere(place):
    data = bytes(range(200))
    found = flipped(data, place)
    changed = [a ^ b for a, b in zip(data, found, strict=True) if a != b]
    assert len(changed) == 1
    assert changed[0].bit_count() == 1
    (data, _) = asked(Fault(corrupts=True, place=place))
    assert data != b"answer"


def test_the_wall_clock_is_shifted_while_a_client_trains_and_no_longer():
    before, long = time.time(), time.monotonic()
    _, (seen,) = asked(Fault(), clock_s=-5e8)
    assert seen == pytest.approx(before - 5e8, abs=1e6)
    assert time.time() >= before
    with shifted_clock(1e9):
        assert time.time_ns() > (before + 9e8) * 1e9
        assert time.monotonic() < long + 1e6


def test_the_clock_is_right_again_after_an_error():
    before = time.time()

    def raises():
        raise DataError("no data")  # noqa: EM101

    with pytest.raises(DataError, match="no data"):
        answer_under(Fault(), 1e9, raises)
    assert time.time() < before + 1e6
