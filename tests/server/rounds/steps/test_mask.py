"""The weight mask of a run: when it is chosen, what it zeroes, who holds it."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_federation import make_setting, make_task, start, tiny_structure

from fedprune.common.config import MaskRule
from fedprune.common.messages import Phase
from fedprune.common.methods.kinds import MASK
from fedprune.common.methods.registry import find
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.ledger import ClientLedger, Ledgers
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.steps.mask import mask_rounds, take_mask, under_mask
from fedprune.server.runs.controls.settings import dense_config

FINAL = Cursor(phase=Phase.FINETUNE, index=1, progress=1.0, final=True)
UNSTRUCTURED = {
    "prune__mask__kind": "unstructured",
    "prune__mask__density": 0.25,
    "prune__mask__end": 1,
}


def federation(cursor=FINAL, **changes):
    """Return setting and state of the tiny federation, its cuts over."""
    task = make_task(**UNSTRUCTURED | changes)
    run_spec = make_setting(task)
    return run_spec, replace(start(task, run_spec), cursor=cursor)


def taken(state, run_spec):
    return take_mask(state, run_spec)


def matrices(spec):
    """Return where the entries of matrices are, bool[weights]."""
    parts = [np.full(t.size, len(t.shape) > 1) for t in spec.tensors]
    return np.concatenate(parts)


def test_the_mask_zeroes_all_but_its_share_of_the_matrices():
    run_spec, state = federation()
    after = taken(state, run_spec)
    inside = matrices(run_spec.structure.spec(state.keep))
    assert np.count_nonzero(after.mask.keep[inside]) == np.ceil(0.25 * inside.sum())
    assert after.mask.keep[~inside].all()
    np.testing.assert_array_equal(after.weights, after.mask.apply(state.weights))
    assert np.count_nonzero(after.weights) < np.count_nonzero(state.weights)


def test_entries_are_ranked_by_magnitude_unless_told_otherwise():
    run_spec, state = federation()
    mask = taken(state, run_spec).mask
    inside = matrices(run_spec.structure.spec(state.keep))
    size = np.abs(state.weights)
    least, best = size[inside & mask.keep].min(), size[inside & ~mask.keep].max()
    assert least >= best
    run_spec, _ = federation(prune__mask__kind="sensitivity")
    other = taken(state, run_spec).mask
    assert np.count_nonzero(other.keep) == np.count_nonzero(mask.keep)
    assert (other.keep != mask.keep).any()


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor(phase=Phase.WARMUP, index=1),
        Cursor(phase=Phase.SPARSIFY, index=1),
        Cursor(phase=Phase.FINETUNE, index=1),
        replace(FINAL, index=2),
        replace(FINAL, index=3, closing=True),
        replace(FINAL, done=True),
    ],
)
def test_no_mask_is_chosen_before_the_cuts_are_over_or_twice(cursor):
    run_spec, state = federation(cursor)
    assert taken(state, run_spec) is state


def test_without_final_rounds_the_closing_round_is_sent_masked():
    run_spec, state = federation(replace(FINAL, closing=True), rounds__final=0)
    assert taken(state, run_spec).mask is not None


def test_a_mask_of_several_steps_thins_out_and_stays_nested():
    run_spec, state = federation(prune__mask__end=2)
    first = taken(state, run_spec)
    second = taken(replace(first, cursor=replace(FINAL, index=2)), run_spec)
    assert second.mask.parent == first.mask.digest
    assert not (second.mask.keep & ~first.mask.keep).any()
    assert second.mask.density < first.mask.density
    third = replace(second, cursor=replace(FINAL, index=3))
    assert taken(third, run_spec) is third


def rounds_of(name, final, **rule):
    """Return before which final rounds a kind of masks is chosen."""
    return mask_rounds(MaskRule(kind=name, **rule), final, find(MASK, name))


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"begin": 3}, [3, 4, 5, 6, 7, 8]),
        ({"begin": 3, "end": 3}, [3]),
        ({"frequency": 4}, [1, 5]),
        ({"begin": 2, "end": 9, "frequency": 3}, [2, 5, 8]),
        ({"begin": 10}, [10]),  # later than two thirds: once
        ({"begin": 12, "frequency": 9}, [12]),
    ],
)
def test_masks_are_chosen_from_begin_to_end_at_their_frequency(rule, wanted):
    assert rounds_of("unstructured", 12, **rule) == wanted
    run_spec, state = federation(
        rounds__final=12,
        **{"prune__mask__end": 0}
        | {f"prune__mask__{key}": value for key, value in rule.items()},
    )
    chosen = []
    for index in range(1, 14):
        cursor = replace(FINAL, index=index, closing=index == 13)
        before, state = state, taken(replace(state, cursor=cursor), run_spec)
        if state.mask is not before.mask:
            chosen.append(index)
    assert chosen == wanted
    inside = matrices(run_spec.structure.spec(state.keep))
    assert np.count_nonzero(state.mask.keep[inside]) == np.ceil(0.25 * inside.sum())


@pytest.mark.parametrize(
    ("schedule", "power", "half"),
    [("linear", 3.0, 0.625), ("polynomial", 1.0, 0.625), ("polynomial", 3.0, 0.34375)],
)
def test_the_density_of_a_mask_follows_its_own_schedule(schedule, power, half):
    run_spec, state = federation(
        prune__mask__end=2, prune__mask__schedule=schedule, prune__mask__power=power
    )
    mask = taken(state, run_spec).mask
    inside = matrices(run_spec.structure.spec(state.keep))
    assert np.count_nonzero(mask.keep[inside]) == np.ceil(half * inside.sum())


@pytest.mark.parametrize(("final", "steps"), [(0, 1), (1, 1), (2, 1), (3, 2), (6, 4)])
def test_a_mask_takes_two_thirds_of_the_final_rounds_unless_told_otherwise(
    final, steps
):
    assert rounds_of("unstructured", final) == list(range(1, steps + 1))
    assert rounds_of("blocks", final, end=5) == [1, 2, 3, 4, 5]
    assert rounds_of("n:m", final) == [1]
    run_spec, state = federation(rounds__final=final, prune__mask__end=0)
    closing = replace(FINAL, index=final + 1, closing=True)
    cursors = [replace(FINAL, index=i + 1) for i in range(final)] + [closing]
    densities = []
    for cursor in cursors:
        before, state = state, taken(replace(state, cursor=cursor), run_spec)
        if state.mask is not before.mask:
            densities.append(state.mask.density)
    assert len(densities) == steps
    assert densities == sorted(densities, reverse=True)
    inside = matrices(run_spec.structure.spec(state.keep))
    assert np.count_nonzero(state.mask.keep[inside]) == np.ceil(0.25 * inside.sum())


def test_n_of_m_is_one_step_and_has_its_form():
    run_spec, state = federation(prune__mask__kind="n:m", prune__mask__end=2)
    mask = taken(state, run_spec).mask
    spec, start_ = run_spec.structure.spec(state.keep), 0
    for tensor in spec.tensors:
        part = mask.keep[start_ : start_ + tensor.size].reshape(tensor.shape)
        start_ += tensor.size
        if len(tensor.shape) > 1 and tensor.shape[1] % 4 == 0:
            groups = np.moveaxis(part, 1, -1).reshape(-1, 4)
            assert (groups.sum(axis=1) == 2).all()
    again = replace(state, cursor=replace(FINAL, index=2), mask=mask)
    assert taken(again, run_spec) is again


def test_the_mask_travels_only_to_those_who_lack_it():
    run_spec, state = federation()
    after = taken(state, run_spec)
    lines = {"client-001": ClientLedger(mask=True)}
    after = replace(after, ledgers=Ledgers.of(lines))
    request = plan_round(after, run_spec).request
    sizes = {o.client_id: len(request.variants[o.variant]) for o in request.assignments}
    assert len({size for c, size in sizes.items() if c != "client-001"}) == 1
    assert sizes["client-001"] < sizes["client-000"]


def test_no_client_has_a_new_mask():
    run_spec, state = federation()
    lines = {"a": ClientLedger(held=3, mask=True), "b": ClientLedger(held=2)}
    state = replace(state, ledgers=Ledgers.of(lines))
    held = {name: line.mask for name, line in taken(state, run_spec).ledgers.items()}
    assert held == {"a": False, "b": False}
    assert taken(state, run_spec).ledgers["a"].held == 3


def test_what_clients_send_outside_of_the_mask_changes_nothing():
    run_spec, state = federation()
    after = taken(state, run_spec)
    moved = under_mask(after, after.weights + np.float32(1.0))
    assert (moved[~after.mask.keep] == 0.0).all()
    assert (moved[after.mask.keep] != 0.0).any()
    assert under_mask(state, state.weights) is state.weights


def test_the_control_run_has_no_mask():
    run_spec, _ = federation()
    assert dense_config(run_spec.config, 5).prune.mask == MaskRule()
    assert tiny_structure().units == 16
