"""Runs of bytes: the same again, small, and nothing forged gets through."""

import tracemalloc

import numpy as np
import pytest
from helpers.codec.slow_byte_runs import SlowSection
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common.codec.entropy.byte_runs import decode_section, encode_section
from fedprune.common.errors import PayloadError

# By hand: no generator's stream may change these bytes.
BYTES = bytes(i * i % 7 for i in range(300))
GOLDEN_SECTION = (
    "ae0036f51c013a23fc00a8043e004a02c5011e00d6001600290080017b01a616"
    "0fceef4a4aa9f0d231011168b7a3169ed2647109ec4bb653f60529aad000377e"
    "a5a833fb839a2919e6e526a156493777ecd419afe8af498fc421ddebad19ddd3"
    "a7fb94a859c822b5cfb38d58f945fa13"
)


def parts_of(size):
    return [at * 16 // size for at in range(size)]


def test_known_bytes_have_known_bytes():
    coded, data = encode_section(BYTES)
    assert coded
    assert data.hex() == GOLDEN_SECTION
    assert decode_section(data, "x", 300, coded=True) == BYTES


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3000), st.integers(1, 64))
def test_bytes_come_back_and_are_never_longer(seed, size, width):
    rng = np.random.default_rng(seed)
    raw = (rng.normal(size=size) * width).astype(np.int8).tobytes()
    coded, data = encode_section(raw)
    assert len(data) <= len(raw)
    assert decode_section(data, "x", size, coded=coded) == raw
    if coded:
        assert SlowSection(data, parts_of(size)).bytes() == raw


SECTION = encode_section(BYTES)[1]
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
        decode_section(data, "name", 300, coded=True)
    assert caught.value.field == "name"


@pytest.mark.parametrize("size", [0, 1, 299, 301, 1 << 32])
def test_a_section_of_another_size_is_refused_before_its_bytes_are_made(size):
    tracemalloc.start()
    with pytest.raises(PayloadError) as caught:
        decode_section(SECTION, "name", size, coded=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.field == "name"
    assert peak < 1 << 20
