"""The choice: nested, legal, exact, and no more than the budget needs."""

import numpy as np
import pytest
import torch
from helpers.pruning_nets import NETS, build, choose, scores
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.pruning.choose import smallest_cut
from fedprune.common.pruning.cost import count_cost, is_met, shares, width_step
from fedprune.common.structure.tracing.find import find_structure

STRUCTURES = {name: build(name)[2] for name in NETS}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("cap", [0.1, 0.4, 1.0])
def test_the_smallest_cut_is_that_of_a_target_out_of_reach(name, cap):
    structure = STRUCTURES[name]
    how = {"floor": 1, "step_cap": cap, "width_multiple": 0}
    given_ = smallest_cut(structure, structure.full(), **how)
    far = choose(structure, scores(structure), {"params": 1e-6}, **how)
    assert widths(structure, given_) == widths(structure, far)


def one_group(width=64):
    """Return a structure with one group of ``width`` channels."""
    model = nn.Sequential(
        nn.Conv2d(3, width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).append(nn.Linear(width, 2))
    return find_structure(model, torch.zeros(1, 3, 2, 2))


def widths(structure, keep):
    return [
        int(structure.channels[g.units][keep[g.units]].sum()) for g in structure.groups
    ]


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])
def test_of_equal_scores_exactly_the_lowest_units_go(value):
    keep = choose(one_group(), np.full(64, value), {"channel_density": 0.75})
    np.testing.assert_array_equal(np.flatnonzero(~keep), np.arange(16))


@pytest.mark.parametrize("density", [0.9, 0.7, 0.5, 0.29, 0.1])
def test_of_100_channels_exactly_the_share_asked_for_is_kept(density):
    keep = choose(one_group(100), np.ones(100), {"channel_density": density})
    assert keep.sum() == round(100 * density)


def test_the_least_important_units_go():
    importance = scores(one_group())
    keep = choose(one_group(), importance, {"channel_density": 0.5})
    assert importance[~keep].max() < importance[keep].min()


SETTINGS = st.fixed_dictionaries(
    {
        "floor": st.integers(1, 5),
        "step_cap": st.sampled_from([0.1, 0.3, 0.5, 1.0]),
        "width_multiple": st.sampled_from([0, 1, 2, 4, 8]),
    }
)
TARGETS = st.dictionaries(
    st.sampled_from(["params", "flops", "channel_density"]),
    st.floats(0.05, 1.0),
    min_size=1,
)


@given(st.sampled_from(sorted(NETS)), st.integers(0, 99), TARGETS, SETTINGS)
def test_every_choice_is_nested_legal_and_within_cap_and_floor(
    name, seed, targets, settings
):
    structure = STRUCTURES[name]
    keep = choose(structure, scores(structure, seed), {"params": 0.8})
    found = choose(
        structure, scores(structure, seed + 1), targets, keep=keep, **settings
    )
    assert not (found & ~keep).any()
    for group, before, after in zip(
        structure.groups, widths(structure, keep), widths(structure, found), strict=True
    ):
        if after == before:
            continue
        width = int(structure.channels[group.units].sum())
        multiple = width_step(width, settings["width_multiple"])
        assert after % multiple == 0
        assert after >= max(settings["floor"], multiple)
        unit = int(structure.channels[group.units].max())
        one_step = max(
            (w for w in range(0, before, multiple) if (before - w) % unit == 0),
            default=0,
        )
        most = settings["step_cap"] * before
        assert before - after <= most + 1e-9 or after == one_step


@pytest.mark.slow
@given(st.sampled_from(sorted(NETS)), st.integers(0, 99), TARGETS)
def test_the_targets_are_met_and_no_group_could_keep_more(name, seed, targets):
    structure = STRUCTURES[name]
    importance = scores(structure, seed)
    reachable = {kind: max(share, 0.3) for kind, share in targets.items()}
    found = choose(structure, importance, reachable)
    left = shares(structure, found)
    assert all(is_met(left[kind], share) for kind, share in reachable.items())
    for group in structure.groups:
        gone = group.units[~found[group.units]]
        if gone.size:
            more = found.copy()
            more[gone[np.lexsort((gone, importance[gone]))[-1]]] = True
            left = shares(structure, more)
            assert not all(is_met(left[k], share) for k, share in reachable.items())


def unmet(structure, keep, targets):
    left = shares(structure, keep)
    return {kind for kind, share in targets.items() if not is_met(left[kind], share)}


def worth(missing):
    """Return what freed shares of (weights, MACs) count for while this is missing."""
    if "flops" not in missing:
        return 1.0, 0.3
    return (1.0, 1.0) if "params" in missing else (0.1, 1.0)


def cheapest(structure, keep, importance, targets, barred):
    """Return (price, share lost, group, unit) of the best unit to cut, or None."""
    dense, here = (count_cost(structure, m) for m in (structure.full(), keep))
    of_params, of_macs = worth(unmet(structure, keep, targets))
    offers = []
    for number, group in enumerate(structure.groups):
        units = group.units[keep[group.units]]
        unit = min(units, key=lambda unit: (importance[unit], unit))
        after = keep.copy()
        after[unit] = False
        cost = count_cost(structure, after)
        freed = of_params * ((here.params - cost.params) / dense.params)
        freed += of_macs * ((here.macs - cost.macs) / dense.macs)
        if len(units) > 1 and number not in barred:
            lost = (len(group.units) - len(units)) / (len(group.units) - 1)
            offers.append((float(importance[unit]) / freed, lost, number, unit))
    return min(offers, default=None)


def used(structure, keep, targets):
    left = shares(structure, keep)
    return max(left[kind] / share for kind, share in targets.items())


def reference(structure, importance, targets):
    """The choice with width multiple 1 and no cap, written for reading."""
    found, taken, barred, ends = structure.full(), [], set(), []
    while True:
        offer = cheapest(structure, found, importance, targets, barred)
        if offer is None:
            break
        after = found.copy()
        after[offer[3]] = False
        if unmet(structure, after, targets):
            found, taken = after, [*taken, offer]
            continue
        ends.append(filled(structure, after, targets, [*taken, offer]))
        if used(structure, ends[-1], targets) >= 0.98:
            return ends[-1]
        barred.add(offer[2])
    return max(ends, key=lambda end: used(structure, end, targets), default=found)


def filled(structure, keep, targets, taken):
    """Return what is kept when what the targets do not need is given back."""
    found, needed = keep.copy(), set()
    for _, _, number, unit in reversed(taken):
        if number not in needed:
            found[unit] = True
            if unmet(structure, found, targets):
                found[unit] = False
                needed.add(number)
    return found


REFERRED = [
    {"params": 0.5},
    {"flops": 0.5},
    {"flops": 0.4, "params": 0.7},
    {"flops": 0.6, "params": 0.4},
    {"channel_density": 0.5},
]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("targets", REFERRED)
def test_the_choice_is_that_of_the_readable_reference(name, targets, ties):
    structure = STRUCTURES[name]
    for seed in (0, 1):
        importance = scores(structure, seed)
        if ties:
            importance = np.ceil(importance * 3.0)
        found = choose(structure, importance, targets)
        wanted = reference(structure, importance, targets)
        least = used(structure, wanted, targets)
        if least >= 0.98:
            np.testing.assert_array_equal(found, wanted)
        assert least <= used(structure, found, targets) <= 1.0 + 1e-9


@pytest.mark.parametrize("name", NETS)
def test_the_choice_is_exactly_reproducible_and_changes_nothing(name):
    structure = STRUCTURES[name]
    importance = scores(structure)
    one, other = (choose(structure, importance, {"params": 0.4}) for _ in range(2))
    assert one.tobytes() == other.tobytes()
    np.testing.assert_array_equal(importance, scores(structure))


def test_a_budget_that_is_met_cuts_nothing():
    structure = STRUCTURES["resnet"]
    keep = choose(structure, scores(structure), {"params": 0.5})
    again = choose(structure, scores(structure, 9), {"params": 0.5}, keep=keep)
    np.testing.assert_array_equal(again, keep)
    assert choose(structure, scores(structure), {"params": 1.0, "flops": 1.0}).all()


def test_a_target_out_of_reach_of_the_cap_is_approached_as_far_as_allowed():
    structure = one_group()
    keep = structure.full()
    seen = [64]
    for _ in range(4):
        keep = choose(structure, np.ones(64), {"params": 0.1}, keep=keep, step_cap=0.4)
        seen.append(int(keep.sum()))
    assert seen == [64, 39, 24, 15, 9]


def test_the_cap_is_not_missed_by_rounding():
    # 0.29 * 100 is 28.999999999999996 in float64.
    keep = choose(one_group(100), np.ones(100), {"params": 0.1}, step_cap=0.29)
    assert keep.sum() == 71


def test_one_legal_step_is_allowed_below_the_cap():
    structure = one_group(16)
    settings = {"step_cap": 0.1, "width_multiple": 8}
    keep = choose(structure, np.ones(16), {"params": 0.2}, **settings)
    assert keep.sum() == 8
    again = choose(structure, np.ones(16), {"params": 0.2}, keep=keep, **settings)
    assert again.sum() == 8


def test_a_width_that_is_no_multiple_stays_whole_or_becomes_one():
    structure = one_group(20)
    wide = choose(structure, np.ones(20), {"params": 0.9}, width_multiple=8)
    assert wide.sum() == 16
    assert choose(structure, np.ones(20), {"params": 0.1}, width_multiple=32).all()


def test_group_norm_widths_are_counted_in_channels():
    structure = STRUCTURES["groupnorm"]
    keep = choose(structure, scores(structure), {"params": 0.01}, width_multiple=8)
    # Stages of 8 channels stay whole; of 16 = 4 units of 4 channels, 2 units stay.
    assert widths(structure, keep) == [8, 8, 8, 8, 8, 8]
    assert list(structure.widths(keep).values()) == [4, 4, 4, 2, 2, 2]


def test_a_layer_wholly_below_the_others_keeps_its_floor():
    structure = STRUCTURES["lenet"]
    importance = scores(structure) + 1.0
    importance[6:22] = 1e-9
    keep = choose(structure, importance, {"params": 0.2}, floor=3)
    assert structure.widths(keep)["conv2"] == 3
    assert shares(structure, keep)["params"] <= 0.2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused_by_name(bad):
    structure = STRUCTURES["lenet"]
    importance = scores(structure)
    importance[25] = bad
    with pytest.raises(ValueError, match=r"unit 25 \(group 'fc1'\)"):
        choose(structure, importance, {"params": 0.5})


def test_scores_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"want \[54\]"):
        choose(STRUCTURES["lenet"], np.ones(53), {"params": 0.5})


@pytest.mark.parametrize(
    "settings",
    [{"floor": 0}, {"width_multiple": -1}, {"step_cap": 0.0}, {"step_cap": 1.5}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="want"):
        choose(STRUCTURES["lenet"], np.ones(54), {"params": 0.5}, **settings)
