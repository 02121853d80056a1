"""Runs of bytes: the same again, small, and nothing forged gets through."""

import tracemalloc

import numpy as np
import pytest
from helpers.codec.slow_byte_runs import SlowSection
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common.codec.entropy.byte_runs import even_parts, squeeze, unsqueeze
from fedprune.common.errors import PayloadError

# By hand: no generator's stream may change these bytes.
BYTES = bytes(i * i % 7 for i in range(300))
PARTS = (np.arange(300) // 100).astype(np.uint8)
GOLDEN_SECTION = (
    "48000402b00138015100ca000c008400c5011200b2001000610140002901a400"
    "16c6d37b5dba794d8cb9d0ac4b84ec821f8cb27ed38d3190ff826d0b550b64c3"
    "b65cc351763ac0e8de3846b076024b0894f49e7c588a0848fd5963d0cf2d9ccb"
    "835b7ac8ede4fd3778549ab60cdd000a"
)


def test_known_bytes_have_known_bytes():
    coded, data = squeeze(BYTES, PARTS)
    assert coded
    assert data.hex() == GOLDEN_SECTION
    found = unsqueeze(data, "x", 300, coded=True, parts_of=lambda _: PARTS)
    assert found == BYTES


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3000), st.integers(1, 64))
def test_bytes_come_back_and_are_never_longer(seed, size, parts):
    rng = np.random.default_rng(seed)
    raw = (rng.normal(size=size) * 9).astype(np.int8).tobytes()
    of = np.sort(rng.integers(parts, size=size)).astype(np.uint8)
    coded, data = squeeze(raw, of)
    assert len(data) <= len(raw)
    assert unsqueeze(data, "x", size, coded=coded, parts_of=lambda _: of) == raw
    if coded:
        assert SlowSection(data, of).bytes() == raw


SECTION = squeeze(BYTES, even_parts(300))[1]
FORGED_SECTIONS = {
    "nothing": b"",
    "a state cut off": SECTION[:31],
    "half a word": SECTION[:-1],
    "a word less": SECTION[:-2],
    "a word more": SECTION + bytes(2),
    "a state below 2**16": bytes(4) + SECTION[4:],
    "another first state": bytes([SECTION[0] ^ 1]) + SECTION[1:],
    "as many bytes as the section has": bytes(300),
}


@pytest.mark.parametrize("data", FORGED_SECTIONS.values(), ids=FORGED_SECTIONS)
def test_a_forged_section_is_refused_by_name(data):
    with pytest.raises(PayloadError) as caught:
        unsqueeze(data, "name", 300, coded=True)
    assert caught.value.field == "name"


@pytest.mark.parametrize("size", [0, 1, 299, 301, 1 << 32])
def test_a_section_of_another_size_is_refused_before_its_bytes_are_made(size):
    tracemalloc.start()
    with pytest.raises(PayloadError) as caught:
        unsqueeze(SECTION, "name", size, coded=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.field == "name"
    assert peak < 1 << 20
