"""Plans: nested, checked, rolled back."""

import numpy as np
import pytest
from helpers.pruning_nets import build, random_mask
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.errors import ConfigError, PayloadError, Reason
from fedprune.common.pruning.plan import (
    check_plan,
    child_plan,
    full_plan,
    rollback_plan,
)
from fedprune.common.spec import PrunePlan

_, _, LENET = build("lenet")
_, _, RESNET = build("resnet")


def cut(keep, *units):
    found = keep.copy()
    found[list(units)] = False
    return found


def test_the_first_plan_keeps_everything_and_has_no_parent():
    plan = full_plan(LENET)
    assert plan.keep.all()
    assert len(plan.keep) == 54
    assert plan.parent == b""
    assert not plan.rollback
    assert plan.structure == LENET.digest
    check_plan(LENET, plan)


def test_a_child_names_its_parent_and_is_nested_in_it():
    first = full_plan(LENET)
    second = child_plan(LENET, first, cut(first.keep, 0, 7))
    third = child_plan(LENET, second, cut(second.keep, 1))
    assert second.parent == first.digest
    assert third.parent == second.digest
    assert len({first.digest, second.digest, third.digest}) == 3
    assert not (third.keep & ~second.keep).any()
    check_plan(LENET, third)


def test_a_child_owns_its_mask():
    keep = cut(LENET.full(), 0)
    plan = child_plan(LENET, full_plan(LENET), keep)
    keep[5] = False
    assert plan.keep[5]


def test_a_child_never_gives_a_unit_back():
    parent = child_plan(LENET, full_plan(LENET), cut(LENET.full(), 3, 9))
    with pytest.raises(ConfigError, match=r"2 units .* the first is 3"):
        child_plan(LENET, parent, LENET.full())


def test_a_child_never_empties_a_group():
    keep = cut(LENET.full(), *range(6))
    with pytest.raises(ConfigError, match="conv1"):
        child_plan(LENET, full_plan(LENET), keep)


def test_a_rollback_restores_an_ancestor_and_says_so():
    first = full_plan(LENET)
    second = child_plan(LENET, first, cut(first.keep, 0, 7))
    third = child_plan(LENET, second, cut(second.keep, 1))
    back = rollback_plan(LENET, third, second)
    assert back.rollback
    assert back.parent == second.digest
    np.testing.assert_array_equal(back.keep, second.keep)
    assert back.digest not in {first.digest, second.digest, third.digest}
    check_plan(LENET, back)
    again = child_plan(LENET, back, cut(back.keep, 2))
    assert again.parent == back.digest
    # A client that missed the rollback is given this one, and must be informed.
    assert again.rollback
    assert not third.rollback


def test_a_rollback_goes_to_what_the_plan_was_cut_from_only():
    first = full_plan(LENET)
    left = child_plan(LENET, first, cut(first.keep, 0))
    right = child_plan(LENET, first, cut(first.keep, 1))
    with pytest.raises(ConfigError, match=r"1 units .* not in the ancestor"):
        rollback_plan(LENET, left, right)
    with pytest.raises(ConfigError, match="earlier plan"):
        rollback_plan(LENET, left, left)


FORGED = {
    "another structure": (RESNET.digest, LENET.full(), Reason.BAD_DIGEST),
    "no structure": (b"", LENET.full(), Reason.BAD_DIGEST),
    "a unit less": (LENET.digest, LENET.full()[1:], Reason.BAD_SIZE),
    "a unit more": (LENET.digest, np.ones(55, bool), Reason.BAD_SIZE),
    "no mask": (LENET.digest, np.ones(54, np.int8), Reason.BAD_SIZE),
    "an empty group": (
        LENET.digest,
        cut(LENET.full(), *range(42, 54)),
        Reason.BAD_VALUE,
    ),
    "nothing": (LENET.digest, np.zeros(54, bool), Reason.BAD_VALUE),
}


@pytest.mark.parametrize(("digest", "keep", "reason"), FORGED.values(), ids=FORGED)
def test_a_plan_that_cannot_be_applied_is_refused(digest, keep, reason):
    plan = PrunePlan(structure=digest, keep=keep)
    with pytest.raises(PayloadError, match=r"plan\.") as caught:
        check_plan(LENET, plan)
    assert caught.value.reason is reason


@given(st.integers(0, 1000))
def test_every_mask_with_a_unit_in_each_group_is_a_valid_plan(seed):
    keep = random_mask(RESNET, seed, density=0.1)
    plan = child_plan(RESNET, full_plan(RESNET), keep)
    check_plan(RESNET, plan)
    assert RESNET.empty_groups(keep) == []
    assert min(RESNET.widths(keep).values()) >= 1
