"""Mutants of valid messages: only ``PayloadError``, or a valid message, comes out."""

import numpy as np
import pytest

from fedprune.common import codec
from fedprune.common.codec.frame import pack, unpack
from fedprune.common.errors import PayloadError
from fedprune.simulations.benchmarks import fuzz
from fedprune.simulations.benchmarks.kit.codec.subjects import SPEC, subjects

pytestmark = pytest.mark.usefixtures("coder")


@pytest.mark.parametrize("count", [4_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutants_are_refused_or_valid(count):
    found = fuzz.run(count)
    assert found.crashes == 0
    assert found.silent == 0
    assert found.grown < 32 << 20
    assert 0 < found.allocated < 1 << 20
    assert found.accepted > 0  # the checks behind the digest are reached
    assert found.refused > 0.9 * count


def test_mutants_follow_from_the_seed():
    data = subjects()[0].data
    for sealed in (False, True):
        one, other = (
            [fuzz.mutant(rng, data, sealed=sealed) for _ in range(20)]
            for rng in (np.random.default_rng(3), np.random.default_rng(3))
        )
        assert one == other
        assert len(set(one)) > 10


@pytest.mark.slow
def test_an_accepted_mutant_is_a_whole_update():
    subject = subjects()[2]
    rng = np.random.default_rng(1)
    accepted = 0
    for _ in range(600):
        try:
            forged = fuzz.mutant(rng, subject.data, sealed=True)
            update = subject.decode(forged)
        except PayloadError:
            continue
        accepted += 1
        assert 0 < update.fixed <= len(forged)
        indices = update.delta.indices
        assert np.all(np.diff(indices) > 0)
        assert len(indices) == len(update.delta.values)
        assert len(indices) == 0 or (indices[0] >= 0 and indices[-1] < SPEC.size)
        sent = codec.dequantise_delta(update.delta, SPEC)
        assert np.all(np.abs(sent.values) <= 10)
        assert 1 <= update.num_examples <= 1000
    assert accepted > 0


def test_random_bytes_are_refused_or_are_what_pack_writes():
    rng = np.random.default_rng(2)
    accepted = 0
    for _ in range(3000):
        data = b"\x92" + rng.bytes(int(rng.integers(1, 12)))
        try:
            items = unpack(data, "it")
        except PayloadError:
            continue
        accepted += 1
        assert pack(items) == data
    assert accepted > 0


@pytest.mark.parametrize("number", range(len(subjects())))
def test_what_is_mutated_is_valid(number):
    subject = subjects()[number]
    assert subject.decode(subject.data) is not None
