"""Weight masks on the wire: the same again, small, and nothing forged gets through."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from helpers.codec.examples import SPEC, edit, items_of, make_plan, message_of
from helpers.tiny_federation import Tiny, make_task
from hypothesis import given
from hypothesis import strategies as st

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common import codec
from fedprune.common.codec.entropy.byte_runs import encode_section
from fedprune.common.codec.frame import Kind, seal
from fedprune.common.errors import PayloadError
from fedprune.common.models.flat import get_weights
from fedprune.common.sparsity.masks import without_positions
from fedprune.common.spec import WeightMask

KEEP = np.random.default_rng(0).random(SPEC.size) < 0.3
MASK = WeightMask(plan=b"p" * 16, keep=KEEP, parent=b"q" * 16)


def masked_plan(mask=MASK):
    return replace(make_plan(), mask=MASK.digest, weight_mask=mask)


def same(one, other):
    return (one.plan, one.parent, one.digest) == (
        other.plan,
        other.parent,
        other.digest,
    )


def test_a_plan_comes_back_with_its_mask():
    found = codec.decode_plan(codec.encode_plan(masked_plan()), 1 << 20)
    assert found.mask == MASK.digest
    assert same(found.weight_mask, MASK)
    np.testing.assert_array_equal(found.weight_mask.keep, KEEP)


def test_to_a_client_that_holds_it_only_the_digest_travels():
    bare = len(codec.encode_plan(make_plan()))
    named = codec.encode_plan(masked_plan(None))
    assert len(named) - bare < 24
    found = codec.decode_plan(named, 1 << 20)
    assert (found.mask, found.weight_mask) == (MASK.digest, None)


def test_a_plan_without_a_mask_has_the_bytes_that_it_always_had():
    shared = items_of(items_of(codec.encode_plan(make_plan()))[4])
    masked = items_of(items_of(codec.encode_plan(masked_plan()))[4])
    assert len(masked) == len(shared) + 2


@given(st.lists(st.booleans(), min_size=1, max_size=70), st.booleans())
def test_a_stored_mask_comes_back(keep, nested):
    parent = b"q" * 16 if nested else b""
    mask = WeightMask(plan=b"p" * 16, keep=np.array(keep), parent=parent)
    found = codec.decode_mask(codec.encode_mask(mask), 1 << 20)
    assert same(found, mask)
    np.testing.assert_array_equal(found.keep, mask.keep)


def test_a_mask_of_one_in_ten_takes_less_than_a_bitmap():
    keep = np.random.default_rng(0).random(100_000) < 0.1
    mask = WeightMask(plan=b"p" * 16, keep=keep)
    assert len(codec.encode_mask(mask)) < 0.65 * len(keep) / 8


M_PLAN, M_PARENT, M_COUNT, M_CODED, M_DATA = range(5)
FORGED = {
    "another digest": (None, b"x" * 16, "weight_mask"),
    "a digest of 3 bytes": (None, b"abc", "mask"),
    "no digest": (None, b"", "mask"),
    "another plan": (M_PLAN, b"x" * 16, "weight_mask"),
    "a plan of no bytes": (M_PLAN, b"", "weight_mask.plan"),
    "no weights": (M_COUNT, 0, "weight_mask.weights"),
    "too many weights": (M_COUNT, 1 << 33, "weight_mask.weights"),
    "more weights than bits": (M_COUNT, 10_000, "weight_mask.keep"),
    "fewer weights than bits": (M_COUNT, 1, "weight_mask.keep"),
    "one weight fewer: a padding bit": (M_COUNT, SPEC.size - 1, "weight_mask"),
    "coded by a number": (M_CODED, 1, "weight_mask.coded"),
    "bits of text": (M_DATA, "x", "weight_mask.keep"),
    "a bitmap of another length": (M_DATA, bytes(3), "weight_mask.keep"),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_forged_mask_is_refused_by_name(forged):
    place, value, field = forged
    message = codec.encode_plan(masked_plan())
    shared = items_of(items_of(message)[4])
    if place is None:
        shared[-2] = value
    else:
        shared[-1][place] = value
    bad = edit(message, lambda items: items.__setitem__(4, message_of(shared)))
    with pytest.raises(PayloadError) as caught:
        codec.decode_plan(bad, 1 << 20)
    assert caught.value.field.startswith(field)


def coded_zeros(size):
    """Return ``size`` zeros, coded: about 1 byte for 250."""
    coded, data = encode_section(bytes(size))
    assert coded
    return data


def test_a_mask_of_more_weights_than_the_receiver_has_is_never_unpacked():
    weights = 1 << 25
    bomb = [b"p" * 16, b"", weights, True, coded_zeros(weights // 8)]
    message = codec.encode_plan(masked_plan())
    shared = items_of(items_of(message)[4])
    shared[-1] = bomb
    plan = edit(message, lambda items: items.__setitem__(4, message_of(shared)))
    readers = {
        "plan": lambda: codec.decode_plan(plan, 1 << 20, max_weights=SPEC.size),
        "stored": lambda: codec.decode_mask(
            seal(Kind.MASK, bomb), 1 << 20, max_weights=SPEC.size
        ),
    }
    for read in readers.values():
        tracemalloc.start()
        with pytest.raises(PayloadError) as caught:
            read()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert caught.value.field == "weight_mask.weights"
        assert most < 1 << 20


def test_a_client_knows_how_many_weights_its_own_network_has():
    bench = ModelCache(make_task())
    assert bench.size == len(get_weights(Tiny()))
    assert bench._spare is not None  # the round that follows takes it


def test_a_stored_mask_of_another_kind_is_refused():
    with pytest.raises(PayloadError):
        codec.decode_mask(codec.encode_plan(make_plan()), 1 << 20)


@pytest.mark.parametrize(
    ("kept", "density", "without"),
    [(15, 0.1, True), (16, 0.1, False), (100, 1.0, True), (1, 0.0, False)],
)
def test_positions_are_left_out_where_the_mask_is_about_as_dense_as_an_update(
    kept, density, without
):
    mask = WeightMask(plan=b"", keep=np.arange(100) < kept)
    found = without_positions(mask, density)
    assert (found is mask.keep) == without
    assert without_positions(None, density) is None
