"""Weight masks: exact counts, their forms, nesting, digests, and cuts of channels."""

import numpy as np
import pytest
from helpers.masks import FC, PLAN, SPEC, masked, weights
from helpers.pruning_nets import build, flat, random_mask

from fedprune.common.config import MaskRule
from fedprune.common.errors import ConfigError, PayloadError
from fedprune.common.methods.kinds import MASK
from fedprune.common.methods.method import Method
from fedprune.common.pruning.plan import full_plan
from fedprune.common.pruning.remap import remap
from fedprune.common.sparsity.masks import (
    check_mask,
    child_mask,
    cut_mask,
    full_mask,
    next_mask,
)
from fedprune.common.spec import WeightMask

FULL = full_mask(SPEC, PLAN)


def test_what_stays_is_greater_than_what_goes_and_ties_keep_the_lower_place():
    values = weights()
    mask = masked("unstructured", FULL, values, 0.2)
    matrices = np.ones(SPEC.size, bool)
    matrices[1152:1160] = False
    best = np.abs(values)[matrices & mask.keep]
    rest = np.abs(values)[matrices & ~mask.keep]
    assert np.sort(best)[3:].min() >= rest.max()  # but one entry of each tensor
    ties = masked("unstructured", FULL, np.ones(SPEC.size, np.float32), 0.5)
    conv = ties.keep[:1152]
    assert conv[: conv.sum()].all()


def test_weights_outside_of_a_mask_are_zero_and_inside_unchanged():
    mask = masked("n:m", FULL, weights())
    found = mask.apply(weights())
    np.testing.assert_array_equal(found[mask.positions], weights()[mask.keep])
    assert (found[~mask.keep] == 0.0).all()
    assert mask.density == mask.keep.mean()


def test_a_mask_that_gives_entries_back_is_refused():
    first = masked("n:m", FULL, weights())
    with pytest.raises(ConfigError, match="nested in its parent"):
        child_mask(first, FULL.keep)


def test_a_mask_is_checked_against_plan_length_digest_and_emptiness():
    mask = masked("n:m", FULL, weights())
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


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, float("nan")])
def test_a_density_out_of_range_is_refused(density):
    with pytest.raises(ConfigError, match=r"density is .*; want 0 < density"):
        masked("unstructured", FULL, weights(), density)


WRONG = {
    "integers": lambda matrix: matrix.astype(np.int64),
    "another shape": lambda matrix: matrix.reshape(-1),
    "ranks that are no numbers": lambda matrix: matrix * np.nan,
    "ranks without end": lambda matrix: matrix + np.inf,
    "nothing at all": lambda matrix: None,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_kind_that_returns_something_else_is_refused_by_its_name(name):
    kind = Method(
        kind=MASK, name=name, function=WRONG[name], needs=frozenset(["matrix"])
    )
    with pytest.raises(ConfigError, match=rf"'{name}' returned .* for 'conv'; want"):
        next_mask(FULL, SPEC, weights(), kind, MaskRule(), 0.5)


def test_a_mask_follows_a_cut_of_channels():
    model, _, structure = build("resnet")
    full, keep = structure.full(), random_mask(structure, 0)
    values = flat(model)
    spec = structure.spec(full)
    whole = full_mask(spec, full_plan(structure).digest)
    mask = masked("unstructured", whole, values, 0.3, spec=spec)
    found = cut_mask(mask, structure, (full, keep), b"n" * 16)
    np.testing.assert_array_equal(
        found.apply(remap(values, structure, full, keep)),
        remap(mask.apply(values), structure, full, keep),
    )
    assert found.parent == mask.digest
