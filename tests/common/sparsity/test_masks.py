"""Weight masks: exact counts, their forms, nesting, digests, and cuts of channels."""

import numpy as np
import pytest
from helpers.pruning_nets import build, flat, random_mask

from fedprune.common.errors import ConfigError, PayloadError
from fedprune.common.pruning.plan import full_plan
from fedprune.common.pruning.remap import remap
from fedprune.common.sparsity.masks import (
    WeightMask,
    blocks,
    check_mask,
    child_mask,
    cut_mask,
    full_mask,
    n_of_m,
    unstructured,
)
from fedprune.common.spec import ModelSpec, TensorSpec

PLAN = b"p" * 16
SPEC = ModelSpec(
    tensors=(
        TensorSpec(name="conv", shape=(8, 16, 3, 3)),
        TensorSpec(name="bias", shape=(8,)),
        TensorSpec(name="fc", shape=(10, 24)),
        TensorSpec(name="odd", shape=(4, 6)),
    ),
    moments=0,
    units=0,
)
MATRICES = 8 * 16 * 9 + 240 + 24
FC = slice(1152 + 8, 1152 + 8 + 240)
ODD = slice(1152 + 8 + 240, None)


def weights(seed=0):
    found = np.random.default_rng(seed).standard_normal(SPEC.size).astype(np.float32)
    found[FC] *= 0.01
    return found


FULL = full_mask(SPEC, PLAN)
MAKERS = {
    "magnitude": lambda p, w: unstructured(p, SPEC, w, 0.1, by="magnitude"),
    "sensitivity": lambda p, w: unstructured(p, SPEC, w, 0.1),
    "blocks": lambda p, w: blocks(p, SPEC, w, 0.25, shape=(4, 4)),
    "2:4": lambda p, w: n_of_m(p, SPEC, w),
    "1:8": lambda p, w: n_of_m(p, SPEC, w, n=1, m=8),
}
EACH = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@EACH
def test_a_mask_is_nested_named_after_its_parent_and_spares_vectors(make):
    first = make(FULL, weights())
    again = make(first, weights(1))
    assert first.parent == FULL.digest
    assert again.parent == first.digest
    assert not (again.keep & ~first.keep).any()
    assert again.keep[1152:1160].all()
    assert len({FULL.digest, first.digest, again.digest}) == 3
    assert make(FULL, weights()).digest == first.digest
    for start, size in ((0, 1152), (1160, 240), (1400, 24)):
        assert again.keep[start : start + size].any()


@pytest.mark.parametrize("by", ["magnitude", "sensitivity"])
@pytest.mark.parametrize("density", [0.01, 0.1, 0.333, 1.0])
def test_exactly_the_asked_share_of_the_matrices_stays(by, density):
    mask = unstructured(FULL, SPEC, weights(), density, by=by)
    assert mask.keep.sum() - 8 == np.ceil(density * MATRICES)


def test_what_stays_is_greater_than_what_goes_and_ties_keep_the_lower_place():
    values = weights()
    mask = unstructured(FULL, SPEC, values, 0.2, by="magnitude")
    matrices = np.ones(SPEC.size, bool)
    matrices[1152:1160] = False
    best = np.abs(values)[matrices & mask.keep]
    rest = np.abs(values)[matrices & ~mask.keep]
    assert np.sort(best)[3:].min() >= rest.max()  # but one entry of each tensor
    ties = unstructured(FULL, SPEC, np.ones(SPEC.size, np.float32), 0.5)
    conv = ties.keep[:1152]
    assert conv[: conv.sum()].all()


def test_sensitivity_does_not_empty_a_layer_of_small_weights():
    values = weights()
    by_size = unstructured(FULL, SPEC, values, 0.1, by="magnitude").keep[FC]
    by_spread = unstructured(FULL, SPEC, values, 0.1).keep[FC]
    assert by_size.sum() == 1
    assert 0.05 < by_spread.mean() < 0.2


def test_two_of_each_four_input_channels_stay_the_greater_ones():
    values = weights()
    mask = n_of_m(FULL, SPEC, values)
    kept = mask.keep[FC].reshape(10, 6, 4)
    assert (kept.sum(-1) == 2).all()
    size = np.abs(values[FC]).reshape(10, 6, 4)
    assert (
        np.where(kept, size, np.inf).min(-1) >= np.where(kept, 0, size).max(-1)
    ).all()
    conv = mask.keep[:1152].reshape(8, 4, 4, 3, 3)
    assert (conv.sum(2) == 2).all()
    assert mask.keep[ODD].all()  # 6 channels are no multiple of 4


def test_blocks_stay_or_go_whole():
    mask = blocks(FULL, SPEC, weights(), 0.25, shape=(4, 4))
    fc = mask.keep[FC].reshape(10, 6, 4)[:8].reshape(2, 4, 6, 4)
    conv = mask.keep[:1152].reshape(2, 4, 36, 4)
    for share in (conv.mean(axis=(1, 3)), fc.mean(axis=(1, 3))):
        assert set(np.unique(share)) <= {0.0, 1.0}
    assert 0.2 < (mask.keep.sum() - 8) / MATRICES < 0.35


def test_weights_outside_of_a_mask_are_zero_and_inside_unchanged():
    mask = n_of_m(FULL, SPEC, weights())
    found = mask.apply(weights())
    np.testing.assert_array_equal(found[mask.positions], weights()[mask.keep])
    assert (found[~mask.keep] == 0.0).all()
    assert mask.density == mask.keep.mean()


def test_a_mask_that_gives_entries_back_is_refused():
    first = n_of_m(FULL, SPEC, weights())
    with pytest.raises(ConfigError, match="nested in its parent"):
        child_mask(first, FULL.keep)


def test_a_mask_is_checked_against_plan_length_digest_and_emptiness():
    mask = n_of_m(FULL, SPEC, weights())
    check_mask(mask, SPEC, PLAN, mask.digest)
    empty = mask.keep.copy()
    empty[FC] = False
    bare = WeightMask(plan=PLAN, keep=empty)
    short = WeightMask(plan=PLAN, keep=mask.keep[1:])
    for given, plan, digest, words in (
        (mask, b"q" * 16, mask.digest, r"mask\.plan"),
        (short, PLAN, short.digest, r"mask\.keep.*want bool\[1424\]"),
        (mask, PLAN, FULL.digest, r"mask\.digest"),
        (bare, PLAN, bare.digest, r"'fc' keeps no entry"),
    ):
        with pytest.raises(PayloadError, match=words):
            check_mask(given, SPEC, plan, digest)


@pytest.mark.parametrize(
    "make",
    [
        lambda: unstructured(FULL, SPEC, weights(), 0.0),
        lambda: unstructured(FULL, SPEC, weights(), 0.5, by="age"),
        lambda: blocks(FULL, SPEC, weights(), 0.5, shape=(0, 4)),
        lambda: n_of_m(FULL, SPEC, weights(), n=4, m=4),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ConfigError, match="want"):
        make()


def test_a_mask_follows_a_cut_of_channels():
    model, _, structure = build("resnet")
    full, keep = structure.full(), random_mask(structure, 0)
    values = flat(model)
    mask = unstructured(
        full_mask(structure.spec(full), full_plan(structure).digest),
        structure.spec(full),
        values,
        0.3,
    )
    found = cut_mask(mask, structure, (full, keep), b"n" * 16)
    np.testing.assert_array_equal(
        found.apply(remap(values, structure, full, keep)),
        remap(mask.apply(values), structure, full, keep),
    )
    assert found.parent == mask.digest
