import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.seeding import (
    Use,
    generator,
    seed_globals,
    stream_seed,
    torch_generator,
    torch_seed,
)

parts = st.tuples(
    st.integers(-(2**70), 2**70),
    st.integers(0, 10**6),
    st.text(max_size=20),
    st.sampled_from(Use),
)


@pytest.mark.slow
@given(parts, parts)
def test_two_streams_share_a_seed_only_when_all_their_parts_are_equal(first, second):
    assert (stream_seed(*first) == stream_seed(*second)) == (first == second)


@given(parts)
def test_seeds_stay_in_the_range_that_torch_takes(stream):
    assert 0 <= torch_seed(*stream) < 2**63
    assert 0 <= stream_seed(*stream) < 2**128
    torch_generator(*stream)


def test_parts_are_framed_so_that_digits_cannot_move_between_them():
    assert stream_seed(1, 11, "", Use.INIT) != stream_seed(11, 1, "", Use.INIT)
    assert stream_seed(0, 1, "1x", Use.INIT) != stream_seed(0, 11, "x", Use.INIT)


def test_the_numbers_of_a_stream_never_change():
    drawn = generator(0, 1, "client-000", Use.SHUFFLE).integers(10**6, size=3)
    assert drawn.tolist() == [4918, 519901, 11890]
    stream = torch_generator(0, 1, "client-000", Use.SHUFFLE)
    assert torch.randint(10**6, (3,), generator=stream).tolist() == [
        534564,
        158693,
        682897,
    ]


@pytest.mark.slow
def test_a_stream_does_not_depend_on_the_process():
    code = (
        "from fedprune.common.seeding import Use, generator;"
        "print(generator(7, 3, 'é', Use.SCORE).integers(10**9))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONUTF8": "1"},
        capture_output=True,
        check=True,
        text=True,
    )
    here = generator(7, 3, "é", Use.SCORE).integers(10**9)
    assert other.stdout == f"{here}\n"


def test_streams_of_two_uses_look_independent():
    first = generator(0, 1, "client-000", Use.SHUFFLE).random(4000)
    second = generator(0, 1, "client-000", Use.DROPOUT).random(4000)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_seed_globals_repeats_the_draws_and_restores_the_global_generator():
    before = torch.get_rng_state()
    with seed_globals(0, 1, "client-000", Use.DROPOUT):
        first = torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    with seed_globals(0, 1, "client-000", Use.DROPOUT):
        assert torch.equal(torch.rand(5), first)
    with seed_globals(0, 2, "client-000", Use.DROPOUT):
        assert not torch.equal(torch.rand(5), first)


def test_seed_globals_seeds_dropout():
    layer = torch.nn.Dropout(0.5)
    masks = []
    for _ in range(2):
        with seed_globals(0, 1, "client-000", Use.DROPOUT):
            masks.append(layer(torch.ones(64)))
    assert torch.equal(*masks)
    assert 0 < int((masks[0] == 0).sum()) < 64


def test_seed_globals_restores_the_generator_after_an_error():
    before = torch.get_rng_state()

    def fail():
        with seed_globals(0, 1, "client-000", Use.DROPOUT):
            torch.rand(1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.get_rng_state(), before)


def test_no_stream_touches_the_global_generators_of_python_and_numpy():
    python, legacy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    generator(0, 0, "x", Use.INIT).random(3)
    torch_generator(0, 0, "x", Use.INIT)
    with seed_globals(0, 0, "x", Use.INIT):
        torch.rand(1)
    assert random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002
